//! Every instance is replaced under load, again and again, while policy and certificates change: no request fails, and each is
//! delivered once.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use palisade_tests::wild::Act;
use palisade_tests::{Sidecar, Wild, World, client, until};
use serde_json::Value;
use tokio::net::TcpStream;

use crate::PALISADE;

/// At least.
const REQUESTS: usize = 50_000;
const INSTANCES: usize = 3;
const CALLERS: usize = 8;
/// Each of them four times.
const REPLACED: usize = 4 * INSTANCES;

const POLICIES: &str = "
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: strict, namespace: palisade-system}
spec: {mtls: {mode: STRICT}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: web-calls-ledger, namespace: payments}
spec:
  selector: {matchLabels: {app: ledger}}
  action: ALLOW
  rules: [{from: [{source: {principals: [test.mesh/ns/payments/sa/web]}}]}]
";

fn harmless(round: usize) -> String {
    format!(
        "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: nobody, namespace: payments}}
spec: {{action: DENY, rules: [{{to: [{{operation: {{paths: [/nobody/{round}]}}}}]}}]}}
"
    )
}

#[derive(Debug, Default)]
struct Load {
    stop: AtomicBool,
    done: AtomicUsize,
}

/// Payments without pause on a connection that is kept, as an application's HTTP client does it. Gives what went wrong.
async fn pay(load: Arc<Load>, proxy: SocketAddr) -> Vec<String> {
    let mut failures = Vec::new();
    let mut sender: Option<SendRequest<Full<Bytes>>> = None;
    while !load.stop.load(Ordering::Relaxed) {
        let mut open = match sender.take().filter(|sender| !sender.is_closed()) {
            Some(open) => open,
            None => {
                let socket = TcpStream::connect(proxy).await.unwrap();
                let (open, connection) = handshake(TokioIo::new(socket)).await.unwrap();
                tokio::spawn(connection);
                open
            }
        };
        let id = load.done.fetch_add(1, Ordering::Relaxed);
        let mut request = client::request("POST", "http://ledger.payments:8080/transfers", "pay");
        request.headers_mut().insert("x-id", id.into());
        let answer = match open.send_request(request).await {
            Ok(answer) => client::read(answer).await,
            Err(error) => Err(error),
        };
        match answer {
            Ok(answer) if answer.status == 200 => sender = Some(open),
            other => failures.push(format!("{id}: {other:?}")),
        }
    }
    failures
}

async fn instance(world: &World, number: usize, app: SocketAddr) -> Sidecar {
    let name = format!("ledger-{number}");
    world.sidecar_named("payments/ledger", &name).await.serve(8080, app).start().await
}

async fn serial(sidecar: &Sidecar) -> String {
    let page: Value = serde_json::from_str(&sidecar.admin("/certs").await.text()).unwrap();
    page["identity"]["serial"].as_str().unwrap_or_else(|| panic!("no serial: {page}")).to_owned()
}

/// Takes another certificate, at once.
async fn renewed(sidecar: &Sidecar) {
    let before = serial(sidecar).await;
    sidecar.process.hang_up().await;
    until("another certificate", || async {
        let now = serial(sidecar).await;
        if now == before { Err(now) } else { Ok(()) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_are_replaced_under_load_and_every_payment_arrives_once() {
    let world = World::start(PALISADE).await;
    world.apply(POLICIES).await;
    let app = Wild::http1(|_| Act::Answer(200)).await;
    let mut ledgers = Vec::new();
    for number in 0..INSTANCES {
        ledgers.push(instance(&world, number, app.address()).await);
    }
    let web = world.sidecar("payments/web").await.outbound().start().await;
    let load = Arc::new(Load::default());
    let callers: Vec<_> = (0..CALLERS).map(|_| tokio::spawn(pay(load.clone(), web.http_proxy()))).collect();

    let (mut replaced, mut pushes) = (0, 0);
    while replaced < REPLACED {
        while load.done.load(Ordering::Relaxed) < REQUESTS * (replaced + 1) / REPLACED {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // In, and then out: there are four for a moment.
        let new = instance(&world, INSTANCES + replaced, app.address()).await;
        let mut old = ledgers.remove(0);
        old.process.terminate().await;
        assert!(old.process.exit().await.success());
        ledgers.push(new);
        replaced += 1;
        world.apply(&harmless(pushes)).await;
        pushes += 1;
        renewed(&web).await;
        renewed(&ledgers[0]).await;
    }
    load.stop.store(true, Ordering::Relaxed);
    let mut failures = Vec::new();
    for caller in callers {
        failures.extend(caller.await.unwrap());
    }
    let done = load.done.load(Ordering::Relaxed);
    println!("{done} payments, {replaced} instances replaced, {pushes} pushes, {} failed", failures.len());
    assert!(failures.is_empty(), "{} of {done}: {:?}", failures.len(), &failures[..failures.len().min(3)]);
    let by_id = app.by_id();
    assert_eq!(by_id.len(), done);
    assert!(by_id.values().all(|count| *count == 1), "each is delivered once");
}
