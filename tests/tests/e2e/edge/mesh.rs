//! An edge that a control plane tells what to do, and the end of its life.

use http::StatusCode;
use palisade_tests::{Sidecar, client, until};
use serde_json::json;
use tokio::net::TcpStream;

use super::door::{Door, HOST, TO_LEDGER, request, request_to};
use crate::fleet::Fleet;
use crate::kit::{HTTP1, HTTP2};

const PLAIN_GATEWAY: &str = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: public, namespace: payments}
spec:
  selector: {app: edge}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]
";

/// The edge may read the ledger; clients may use the edge.
const THROUGH: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: edge-calls-ledger, namespace: payments}
spec:
  selector: {matchLabels: {app: ledger}}
  action: ALLOW
  rules: [{from: [{source: {principals: [test.mesh/ns/payments/sa/edge]}}], to: [{operation: {methods: [GET]}}]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: clients, namespace: payments}
spec: {selector: {matchLabels: {app: edge}}, action: ALLOW, rules: [{}]}
";

async fn ask(edge: &Sidecar, method: &str) -> StatusCode {
    client::send(edge.edge(80), request(method, "/entries", "")).await.status
}

#[tokio::test]
async fn an_edge_joins_like_any_workload_and_routes_are_pushed_to_it_while_it_runs() {
    let fleet = Fleet::open().await;
    let edge = fleet.world.sidecar("payments/edge").await.edge().listen(80).start().await;
    // The mesh is closed by what `palisade init` writes, and nothing is served yet.
    let mut socket = TcpStream::connect(edge.edge(80)).await.unwrap();
    assert!(client::raw(&mut socket, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.is_empty());
    fleet.world.apply(&format!("{PLAIN_GATEWAY}---{TO_LEDGER}")).await;
    assert_eq!(ask(&edge, "GET").await, StatusCode::FORBIDDEN);
    fleet.app.assert_untouched();
    fleet.world.apply(THROUGH).await;
    until("the way through", async || {
        let status = ask(&edge, "GET").await;
        if status == StatusCode::OK { Ok(()) } else { Err(status) }
    })
    .await;
    let peer = fleet.app.last().headers["x-forwarded-client-cert"].to_str().unwrap().to_owned();
    assert!(peer.ends_with("URI=spiffe://test.mesh/ns/payments/sa/edge"), "{peer}");
    // The ledger's own policy is asked too.
    let before = fleet.app.received().len();
    assert_eq!(ask(&edge, "POST").await, StatusCode::FORBIDDEN);
    assert_eq!(fleet.app.received().len(), before);
    let done =
        fleet.world.operator(&["delete", "VirtualService", "api", "-n", "payments", "--wait", "5s"]).await;
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(ask(&edge, "GET").await, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn an_edge_outlives_its_control_plane_and_restarts_without_it() {
    let mut fleet = Fleet::open().await;
    fleet.world.apply(&format!("{PLAIN_GATEWAY}---{TO_LEDGER}---{THROUGH}")).await;
    let edge = fleet.world.sidecar("payments/edge").await.edge().listen(80).start().await;
    let through = async |edge: &Sidecar| {
        until("the way through", async || {
            let status = ask(edge, "GET").await;
            if status == StatusCode::OK { Ok(()) } else { Err(status) }
        })
        .await;
    };
    through(&edge).await;
    fleet.world.kill_control_plane().await;
    through(&edge).await;
    let edge = edge.restart().await;
    edge.ready().await;
    through(&edge).await;
}

#[tokio::test]
async fn an_evicted_edge_lets_nothing_in_any_more() {
    let fleet = Fleet::open().await;
    fleet.world.apply(&format!("{PLAIN_GATEWAY}---{TO_LEDGER}---{THROUGH}")).await;
    let edge = fleet.world.sidecar("payments/edge").await.edge().listen(80).start().await;
    until("the way through", async || {
        let status = ask(&edge, "GET").await;
        if status == StatusCode::OK { Ok(()) } else { Err(status) }
    })
    .await;
    let proxies = fleet.world.proxies().await;
    let mine = proxies
        .iter()
        .find(|proxy| proxy["service_account"] == "edge" || proxy.to_string().contains("sa/edge"));
    let instance =
        mine.unwrap()["instance"].as_str().or(mine.unwrap()["instance_id"].as_str()).unwrap().to_owned();
    let done = fleet.world.operator(&["evict", &instance]).await;
    assert_eq!(done.code, Some(0), "{done:?}");
    until("the end of service", async || {
        let mut socket = TcpStream::connect(edge.edge(80)).await.map_err(|error| error.to_string())?;
        let answer =
            client::raw(&mut socket, b"GET /entries HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        if answer.is_empty() || answer.starts_with("HTTP/1.1 503") { Ok(()) } else { Err(answer) }
    })
    .await;
}

#[tokio::test]
async fn at_sigterm_the_edge_ends_what_is_under_way_and_tells_clients_to_go() {
    let door = Door::open(TO_LEDGER).await;
    let slow = door.connect(HTTP2).await;
    let slow = tokio::spawn(client::send_h2(slow, super::door::request_h2("GET", HOST, "/slow/1500", "")));
    let kept = door.connect(HTTP1).await;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(kept)).await.unwrap();
    let closed = tokio::spawn(connection);
    let answer = sender.send_request(request("GET", "/", "")).await.unwrap();
    assert_eq!(client::read(answer).await.unwrap().status, StatusCode::OK);
    until(
        "the slow request at the service",
        async || {
            if door.app().received().len() == 2 { Ok(()) } else { Err(()) }
        },
    )
    .await;
    let at = door.edge.edge(443);
    let Door { mut edge, .. } = door;
    edge.process.terminate().await;
    assert_eq!(slow.await.unwrap().unwrap().status, StatusCode::OK);
    assert!(edge.process.exit().await.success());
    assert!(TcpStream::connect(at).await.is_err());
    let _ended =
        tokio::time::timeout(palisade_tests::DEADLINE, closed).await.expect("the idle connection ends");
    edge.records_with(2, &[("response_code", json!(200))]).await;
}

#[tokio::test]
async fn a_gateway_lends_its_hosts_to_the_namespaces_that_it_names() {
    // The routes of another namespace than the one that the Gateway names would take its requests.
    let gateway = PLAIN_GATEWAY.replace("hosts: ['*']", "hosts: ['payments/api.bank.example']");
    let other = TO_LEDGER
        .replace("namespace: payments", "namespace: stranger")
        .replace("[public]", "[payments/public]");
    let fleet = Fleet::open().await;
    fleet.world.apply(&format!("{gateway}---{TO_LEDGER}---{THROUGH}")).await;
    let path = fleet.world.write("stranger.yaml", &other);
    let done = fleet.world.operator(&["apply", &path]).await;
    assert_eq!(done.code, Some(2), "{done:?}");
    assert!(done.stderr.contains("PAL1704"), "{done:?}");
    let edge = fleet.world.sidecar("payments/edge").await.edge().listen(80).start().await;
    let other = client::send(edge.edge(80), request_to("other.example", "GET", "/", "")).await;
    assert_eq!(other.status, StatusCode::NOT_FOUND);
}
