//! Every instance is replaced under load, again and again, while policy and certificates change: no request fails, and each is
//! delivered once.

use std::collections::BTreeMap;
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
use tokio::sync::watch;

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
/// `proxy`: that of the instance whose application this is; it may be replaced, as one.
async fn pay(load: Arc<Load>, mut proxy: watch::Receiver<SocketAddr>) -> Vec<String> {
    let mut failures = Vec::new();
    let mut sender: Option<SendRequest<Full<Bytes>>> = None;
    while !load.stop.load(Ordering::Relaxed) {
        let moved = proxy.has_changed().unwrap();
        let mut open = match sender.take().filter(|sender| !moved && !sender.is_closed()) {
            Some(open) => open,
            None => {
                let address = *proxy.borrow_and_update();
                let socket = TcpStream::connect(address).await.unwrap();
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

/// A ledger with an application of its own, that ends with it.
struct Instance {
    sidecar: Sidecar,
    app: Wild,
}

impl Instance {
    async fn start(world: &World, number: usize) -> Self {
        let app = Wild::http1(|_| Act::Answer(200)).await;
        let builder = world.sidecar_named("payments/ledger", &format!("ledger-{number}")).await;
        Self { sidecar: builder.serve(8080, app.address()).start().await, app }
    }

    /// Gives what was delivered, by id.
    async fn end(mut self) -> BTreeMap<String, usize> {
        self.sidecar.process.terminate().await;
        assert!(self.sidecar.process.exit().await.success());
        self.app.by_id()
    }
}

/// What is delivered by all instances together.
#[derive(Default)]
struct Delivered(BTreeMap<String, usize>);

impl Delivered {
    fn add(&mut self, by_id: BTreeMap<String, usize>) {
        by_id.into_iter().for_each(|(id, count)| *self.0.entry(id).or_default() += count);
    }
}

async fn caller(world: &World, number: usize) -> Sidecar {
    world.sidecar_named("payments/web", &format!("web-{number}")).await.outbound().start().await
}

async fn until_done(load: &Load, requests: usize) {
    while load.done.load(Ordering::Relaxed) < requests {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
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
    let (mut ledgers, mut delivered) = (Vec::new(), Delivered::default());
    for number in 0..INSTANCES {
        ledgers.push(Instance::start(&world, number).await);
    }
    let mut web = caller(&world, 0).await;
    let load = Arc::new(Load::default());
    let (proxy, told) = watch::channel(web.http_proxy());
    let callers: Vec<_> = (0..CALLERS).map(|_| tokio::spawn(pay(load.clone(), told.clone()))).collect();

    for replaced in 0..REPLACED {
        until_done(&load, REQUESTS * (replaced + 1) / REPLACED).await;
        // In, and then out: there are four for a moment.
        ledgers.push(Instance::start(&world, INSTANCES + replaced).await);
        delivered.add(ledgers.remove(0).end().await);
        world.apply(&harmless(replaced)).await;
        renewed(&web).await;
        renewed(&ledgers[0].sidecar).await;
        if replaced % INSTANCES == 0 {
            let mut old = std::mem::replace(&mut web, caller(&world, replaced + 1).await);
            proxy.send_replace(web.http_proxy());
            old.process.terminate().await;
            assert!(old.process.exit().await.success());
        }
        if replaced == REPLACED / 2 {
            // Out to twice as many, and in again, all at once.
            let more = (0..INSTANCES).map(|number| Instance::start(&world, 100 + number));
            let more = futures_util::future::join_all(more).await;
            until_done(&load, load.done.load(Ordering::Relaxed) + 2_000).await;
            let ended = futures_util::future::join_all(more.into_iter().map(Instance::end)).await;
            assert!(ended.iter().all(|by_id| !by_id.is_empty()), "each was given some");
            ended.into_iter().for_each(|by_id| delivered.add(by_id));
        }
    }
    load.stop.store(true, Ordering::Relaxed);
    let mut failures = Vec::new();
    for caller in callers {
        failures.extend(caller.await.unwrap());
    }
    let done = load.done.load(Ordering::Relaxed);
    println!("{done} payments, {REPLACED} instances replaced, {} failed", failures.len());
    assert!(failures.is_empty(), "{} of {done}: {:?}", failures.len(), &failures[..failures.len().min(3)]);
    ledgers.iter().for_each(|ledger| delivered.add(ledger.app.by_id()));
    assert_eq!(delivered.0.len(), done);
    assert!(delivered.0.values().all(|count| *count == 1), "each is delivered once");
}
