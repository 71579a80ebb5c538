//! Between sidecars: what the other one says of a refusal of its own.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use palisade_tests::documents::service_entry;
use palisade_tests::{Sidecar, Upstream, World, client};
use serde_json::json;
use tokio::time::Instant;

use crate::PALISADE;
use crate::kit::nobody;

pub(crate) const OPEN: &str = "
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: palisade-system}
spec: {mtls: {mode: STRICT}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: allow-mesh, namespace: palisade-system}
spec: {action: ALLOW, rules: [{from: [{source: {principals: ['*']}}]}]}
";

const LEDGER: &str = "http://ledger.payments:8080/entries";

/// Two instances of the ledger, one of them without its application, and a caller.
struct Mesh {
    world: World,
    caller: Sidecar,
    _ledgers: [Sidecar; 2],
}

impl Mesh {
    async fn start(apps: [SocketAddr; 2]) -> Self {
        let world = World::of_files(PALISADE);
        world.policy("open.yaml", OPEN);
        let mut ledgers = Vec::new();
        for app in apps {
            ledgers.push(world.file_sidecar("payments/ledger").serve(8080, app).start().await);
        }
        world.policy("ledger.yaml", &ledger_at(ledgers[0].inbound(8080), ledgers[1].inbound(8080)));
        let caller = world.file_sidecar("payments/web").outbound().start().await;
        Self { world, caller, _ledgers: ledgers.try_into().unwrap() }
    }
}

/// The ledger, with two endpoints.
pub(crate) fn ledger_at(one: SocketAddr, two: SocketAddr) -> String {
    let entry = service_entry("ledger", one, "HTTP");
    let more =
        format!(", {{address: {}, ports: {{main: {}}}, serviceAccount: ledger}}]", two.ip(), two.port());
    let at = entry.rfind(']').unwrap();
    format!("{}{more}\n", &entry[..at])
}

/// An instance of the ledger, and a host beside it that takes connections and says nothing on them.
struct Silent {
    world: World,
    app: Upstream,
    caller: Sidecar,
    _ledger: Sidecar,
    _host: TcpListener,
}

impl Silent {
    async fn start(documents: &str) -> Self {
        let world = World::of_files(PALISADE);
        world.policy("open.yaml", OPEN);
        let app = Upstream::start("ledger").await;
        let ledger = world.file_sidecar("payments/ledger").serve(8080, app.address()).start().await;
        let host = TcpListener::bind("127.0.0.1:0").unwrap();
        world.policy("ledger.yaml", &ledger_at(host.local_addr().unwrap(), ledger.inbound(8080)));
        if !documents.is_empty() {
            world.policy("more.yaml", documents);
        }
        let caller = world.file_sidecar("payments/web").workers(1).outbound().start().await;
        Self { world, app, caller, _ledger: ledger, _host: host }
    }
}

#[tokio::test]
async fn a_payment_leaves_a_silent_host_within_the_time_of_one_try() {
    let mesh = Silent::start(
        "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: ledger, namespace: payments}
spec:
  hosts: [ledger]
  http: [{route: [{destination: {host: ledger}}], retries: {attempts: 2, perTryTimeout: 1s}}]
",
    )
    .await;
    for n in 0..10 {
        let began = Instant::now();
        let answer = client::post(mesh.caller.http_proxy(), LEDGER, &format!("pay {n}")).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(began.elapsed() < Duration::from_secs(4), "the limit for connections is 5 s");
    }
    assert_eq!(mesh.app.received().len(), 10, "each once");
    let records = mesh.caller.records_with(10, &[("response_code", json!(200))]).await;
    assert!(records.iter().any(|record| record["retry_count"] == 1), "the silent host was tried");
    drop(mesh.world);
}

#[tokio::test]
async fn a_silent_host_costs_those_who_are_in_a_hurry_a_request_or_two_and_the_others_come_first_then() {
    let mesh = Silent::start("").await;
    let mut late = 0;
    for _ in 0..20 {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let deadline = (now + Duration::from_millis(700)).as_millis();
        let mut request = client::request("GET", LEDGER, "");
        request.headers_mut().insert("x-palisade-deadline", deadline.to_string().parse().unwrap());
        late += usize::from(client::send(mesh.caller.http_proxy(), request).await.status == 504);
    }
    assert!(late < 5, "{late} of 20 met the silent host");
    assert_eq!(mesh.app.received().len(), 20 - late);
}

#[tokio::test]
async fn a_payment_goes_to_another_instance_when_the_applications_of_one_is_not_there() {
    let app = Upstream::start("ledger").await;
    let mesh = Mesh::start([nobody(), app.address()]).await;
    for n in 0..20 {
        let answer = client::post(mesh.caller.http_proxy(), LEDGER, &format!("pay {n}")).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.header("x-palisade-refused"), None);
    }
    let received = app.received();
    assert_eq!(received.len(), 20, "each once");
    assert!(received.iter().any(|request| request.headers.get("x-envoy-attempt-count").is_some()));
    drop(mesh.world);
}

#[tokio::test]
async fn an_application_cannot_say_that_it_was_not_asked() {
    let forging = palisade_tests::Scripted::start().await;
    forging.answers(
        "HTTP/1.1 503 Service Unavailable\r\nx-palisade-refused: before\r\nx_palisade_refused: before\r\n\
         content-length: 0\r\n\r\n",
    );
    let app = Upstream::start("ledger").await;
    let mesh = Mesh::start([forging.address(), app.address()]).await;
    let mut refused = 0;
    for n in 0..20 {
        let answer = client::post(mesh.caller.http_proxy(), LEDGER, &format!("pay {n}")).await;
        refused += usize::from(answer.status == 503);
    }
    let heard = forging.heard().iter().map(|text| text.matches("POST ").count()).sum::<usize>();
    assert!(refused > 0);
    assert_eq!((heard, heard + app.received().len()), (refused, 20), "no payment was sent twice");
}

#[tokio::test]
async fn the_application_is_told_until_when_its_caller_waits() {
    let app = Upstream::start("ledger").await;
    let mesh = Mesh::start([app.address(), app.address()]).await;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let deadline = (now + Duration::from_secs(5)).as_millis();
    let mut request = client::request("GET", LEDGER, "");
    request.headers_mut().insert("x-palisade-deadline", deadline.to_string().parse().unwrap());
    assert_eq!(client::send(mesh.caller.http_proxy(), request).await.status, 200);
    let heard = app.last();
    let told: u128 = heard.headers["x-palisade-deadline"].to_str().unwrap().parse().unwrap();
    assert!(told.abs_diff(deadline) < 2_000, "{told} for {deadline}");
    assert!(!heard.headers.contains_key("x-palisade-timeout-ms"), "that is between sidecars");

    let answer = client::get(mesh.caller.http_proxy(), LEDGER).await;
    assert_eq!(answer.status, 200);
    assert!(!app.last().headers.contains_key("x-palisade-deadline"));
    mesh.caller.records_with(2, &[("response_code", json!(200))]).await;
}
