//! The mesh most control-plane tests use: `payments/ledger` behind a sidecar, `payments/web` that calls it, and load.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::StatusCode;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use palisade_tests::client::{self, Answer, request};
use palisade_tests::process::Finished;
use palisade_tests::{Sidecar, Upstream, World, until};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use crate::PALISADE;

/// What web may do on ledger.
pub(crate) const ALLOW_WEB: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: web-calls-ledger, namespace: payments}
spec:
  selector: {matchLabels: {app: ledger}}
  action: ALLOW
  rules: [{from: [{source: {principals: [test.mesh/ns/payments/sa/web]}}]}]
";

/// Nobody enters `/closed`.
pub(crate) const DENY_CLOSED: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: closed, namespace: payments}
spec:
  selector: {matchLabels: {app: ledger}}
  action: DENY
  rules: [{to: [{operation: {paths: [/closed]}}]}]
";

/// A DENY policy that matches nothing: applied to see that it arrives.
pub(crate) fn harmless(name: &str) -> String {
    format!(
        "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: {name}, namespace: payments}}
spec: {{action: DENY, rules: [{{to: [{{operation: {{paths: [/{name}]}}}}]}}]}}
"
    )
}

pub(crate) fn ledger(target: &str) -> String {
    format!("http://ledger.payments:8080{target}")
}

/// A control plane with what `palisade init` writes.
pub(crate) async fn world() -> World {
    let world = World::start(PALISADE).await;
    let folder = world.folder().join("init").display().to_string();
    let done = world.palisade(&["init", &folder]).await;
    assert_eq!(done.code, Some(0), "{done:?}");
    let done = world.operator(&["apply", &folder]).await;
    assert_eq!(done.code, Some(0), "{done:?}");
    world
}

/// Two services, each behind its sidecar, ready.
pub(crate) struct Fleet {
    pub(crate) world: World,
    pub(crate) app: Upstream,
    pub(crate) ledger: Sidecar,
    pub(crate) web: Sidecar,
}

impl Fleet {
    /// `palisade init`, and these documents.
    pub(crate) async fn start(policies: &str) -> Self {
        let world = world().await;
        world.apply(policies).await;
        let app = Upstream::start("ledger").await;
        let ledger = world.sidecar("payments/ledger").await.serve(8080, app.address());
        let web = world.sidecar("payments/web").await.outbound();
        let (ledger, web) = tokio::join!(ledger.start(), web.start());
        let fleet = Self { world, app, ledger, web };
        fleet.until_known(&fleet.web, 1).await;
        fleet
    }

    /// Where web calls ledger.
    pub(crate) async fn open() -> Self {
        Self::start(ALLOW_WEB).await
    }

    pub(crate) async fn get(&self, target: &str) -> Answer {
        client::get(self.web.http_proxy(), &ledger(target)).await
    }

    /// Waits until `sidecar` has been told of so many endpoints of the ledger.
    pub(crate) async fn until_known(&self, sidecar: &Sidecar, endpoints: u64) {
        until_endpoints(sidecar, "ledger.payments", endpoints).await;
    }
}

/// What a sidecar's `/config` tells of the endpoints of a host; none: it does not know the host.
pub(crate) async fn endpoints(sidecar: &Sidecar, host: &str) -> Option<u64> {
    let config = config(sidecar).await;
    let all = config["configuration"]["destinations"].as_array().cloned().unwrap_or_default();
    let found = all.iter().find(|destination| destination["host"] == host)?;
    found["endpoints"].as_u64()
}

pub(crate) async fn until_endpoints(sidecar: &Sidecar, host: &str, count: u64) {
    until(&format!("{count} endpoints of {host}"), || async {
        let found = endpoints(sidecar, host).await;
        if found.unwrap_or(0) == count { Ok(()) } else { Err(found) }
    })
    .await;
}

pub(crate) async fn config(sidecar: &Sidecar) -> Value {
    serde_json::from_slice(&sidecar.admin("/config").await.body).unwrap()
}

/// The certificate a sidecar presents.
pub(crate) async fn certificate(sidecar: &Sidecar) -> Value {
    let page: Value = serde_json::from_slice(&sidecar.admin("/certs").await.body).unwrap();
    page["identity"].clone()
}

/// A command refused: this exit code, these words, and nothing that only a programmer understands.
pub(crate) fn assert_refused(done: &Finished, code: i32, words: &[&str]) {
    assert_eq!(done.code, Some(code), "{done:?}");
    assert_readable(&format!("{}{}", done.stdout, done.stderr), words);
}

pub(crate) fn assert_readable(output: &str, words: &[&str]) {
    for word in words {
        assert!(output.contains(word), "{word:?} is not said:\n{output}");
    }
    for noise in ["panicked", "RUST_BACKTRACE", "stack backtrace", "src/", "Err(", "unwrap"] {
        assert!(!output.contains(noise), "{noise:?} is said:\n{output}");
    }
}

/// Requests without a pause, on a kept connection and on fresh ones, until told to stop.
pub(crate) struct Traffic {
    stop: watch::Sender<bool>,
    sent: Arc<AtomicU64>,
    tasks: Vec<JoinHandle<Vec<String>>>,
}

/// Between two requests of one task: load that leaves a small machine room to do what is tested.
const PACE: Duration = Duration::from_millis(4);

impl Traffic {
    /// GETs on one connection to the `HTTP_PROXY`, and POSTs on a new connection each.
    pub(crate) fn start(proxy: SocketAddr) -> Self {
        let (stop, stopped) = watch::channel(false);
        let sent = Arc::new(AtomicU64::new(0));
        let kept = tokio::spawn(keep_sending(proxy, true, Arc::clone(&sent), stopped.clone()));
        let fresh = tokio::spawn(keep_sending(proxy, false, Arc::clone(&sent), stopped));
        Self { stop, sent, tasks: vec![kept, fresh] }
    }

    /// Waits until so many more have been answered.
    pub(crate) async fn goes_on(&self, more: u64) {
        let goal = self.sent.load(Ordering::SeqCst) + more;
        until("traffic to go on", || async {
            let sent = self.sent.load(Ordering::SeqCst);
            if sent >= goal { Ok(()) } else { Err(sent) }
        })
        .await;
    }

    /// Stops, and asserts that every request was answered with 200.
    pub(crate) async fn assert_no_failure(self) {
        self.stop.send_replace(true);
        let mut failures = Vec::new();
        for task in self.tasks {
            failures.extend(task.await.unwrap());
        }
        let sent = self.sent.load(Ordering::SeqCst);
        assert!(
            failures.is_empty(),
            "{} of {sent} failed: {:#?}",
            failures.len(),
            &failures[..failures.len().min(5)]
        );
    }
}

async fn keep_sending(
    proxy: SocketAddr,
    kept: bool,
    sent: Arc<AtomicU64>,
    stopped: watch::Receiver<bool>,
) -> Vec<String> {
    let mut failures = Vec::new();
    let mut connection = None;
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !*stopped.borrow() {
        pace.tick().await;
        let outcome = one(proxy, &mut connection).await;
        if !kept {
            connection = None;
        }
        match outcome {
            Ok(StatusCode::OK) => {}
            Ok(status) => failures.push(status.to_string()),
            Err(error) => {
                connection = None;
                failures.push(error);
            }
        }
        sent.fetch_add(1, Ordering::SeqCst);
    }
    failures
}

type Connection = SendRequest<http_body_util::Full<bytes::Bytes>>;

async fn one(proxy: SocketAddr, connection: &mut Option<Connection>) -> Result<StatusCode, String> {
    let (method, body) = if connection.is_some() { ("GET", "") } else { ("POST", "a payment") };
    if connection.is_none() {
        *connection = Some(connect(proxy).await);
    }
    let sender = connection.as_mut().unwrap();
    sender.ready().await.map_err(|error| error.to_string())?;
    let response = sender.send_request(request(method, &ledger("/traffic"), body)).await;
    let response = response.map_err(|error| error.to_string())?;
    client::read(response).await.map(|answer| answer.status).map_err(|error| error.to_string())
}

/// A connection to an `HTTP_PROXY` that is kept.
pub(crate) async fn connect(proxy: SocketAddr) -> Connection {
    let socket = TcpStream::connect(proxy).await.unwrap();
    let (sender, connection) = handshake(TokioIo::new(socket)).await.unwrap();
    tokio::spawn(connection);
    sender
}
