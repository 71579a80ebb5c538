//! VirtualService at work: which upstream a request reaches, and as what.

use http::StatusCode;
use palisade_tests::{Upstream, until};
use serde_json::json;

use super::door::{Door, request, request_to, with};

pub(crate) fn routes(http: &str) -> String {
    format!(
        "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: api, namespace: payments}}
spec:
  hosts: ['*']
  gateways: [public]
  http:
{http}"
    )
}

/// A host outside the mesh, in plaintext.
pub(crate) fn external(host: &str, at: std::net::SocketAddr) -> String {
    external_as(host, at, "HTTP")
}

/// The same, with a port of this protocol.
pub(crate) fn external_as(host: &str, at: std::net::SocketAddr, protocol: &str) -> String {
    format!(
        "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {}, namespace: payments}}
spec:
  hosts: [{host}]
  location: MESH_EXTERNAL
  resolution: STATIC
  ports: [{{number: 80, name: http, protocol: {protocol}}}]
  endpoints: [{{address: {}, ports: {{http: {}}}}}]
",
        host.split('.').next().unwrap(),
        at.ip(),
        at.port()
    )
}

#[tokio::test]
async fn the_first_route_that_fits_is_taken_and_nothing_is_no_route() {
    let other = Upstream::start("other").await;
    let documents = routes(
        "  - {name: exact, match: [{uri: {exact: /a}}], route: [{destination: {host: other.example, port: {number: 80}}}]}
  - {name: prefix, match: [{uri: {prefix: /a/}, method: {exact: POST}}], route: [{destination: {host: ledger}}]}
  - {name: header, match: [{uri: {regex: '/r/[0-9]+'}, headers: {x-beta: {exact: 'yes'}}}], route: [{destination: {host: ledger}}]}
",
    );
    let door = Door::open(&format!("{documents}---{}", external("other.example", other.address()))).await;
    assert_eq!(door.get("/a?x=1").await.text(), "hello from other");
    assert_eq!(other.last().headers["host"], "api.bank.example");
    assert!(!other.last().headers.contains_key("x-forwarded-client-cert"));
    assert_eq!(door.send(request("POST", "/a/b", "body")).await.text(), "hello from ledger");
    let beta = with(request("GET", "/r/12", ""), &[("x-beta", "yes")]);
    assert_eq!(door.send(beta).await.text(), "hello from ledger");
    door.app().clear();
    for refused in [
        request("GET", "/a/b", ""),
        request("GET", "/r/12", ""),
        with(request("GET", "/r/1x", ""), &[("x-beta", "yes")]),
        request("GET", "/b", ""),
        request("GET", "/A", ""),
    ] {
        let target = refused.uri().clone();
        assert_eq!(door.send(refused).await.status, StatusCode::NOT_FOUND, "{target}");
    }
    door.app().assert_untouched();
    door.edge.records_with(5, &[("response_flags", json!("NR"))]).await;
}

#[tokio::test]
async fn the_path_that_is_judged_is_the_path_that_is_routed_and_forwarded() {
    let documents = routes(
        "  - {name: admin, match: [{uri: {prefix: /admin}}], directResponse: {status: 403}}
  - {name: rest, route: [{destination: {host: ledger}}]}
",
    );
    let door = Door::open(&documents).await;
    for target in ["/public/../admin", "/public/%2e%2e/admin", "/%61dmin", "/./admin/x", "/public/.%2E/admin"]
    {
        assert_eq!(door.get(target).await.status, StatusCode::FORBIDDEN, "{target}");
    }
    for target in
        ["/public%2F..%2Fadmin", "/x/..%5cadmin", "/admin;a=b", "/a%00", "/%c0%ae%c0%ae/admin", "/a%3Fb"]
    {
        assert_eq!(door.get(target).await.status, StatusCode::BAD_REQUEST, "{target}");
    }
    door.app().assert_untouched();
    assert_eq!(door.get("/a/./b/../c").await.status, StatusCode::OK);
    assert_eq!(door.app().last().target, "/a/c");
}

#[tokio::test]
async fn redirects_and_direct_responses_are_the_edges_own_and_reach_nobody() {
    let documents = routes(
        "  - {name: old, match: [{uri: {exact: /old}}], redirect: {uri: /new, redirectCode: 308}}
  - {name: down, match: [{uri: {exact: /down}}], directResponse: {status: 503, body: {string: back soon}}, headers: {response: {set: {retry-after: '60'}}}}
  - {name: rest, route: [{destination: {host: ledger}}]}
",
    );
    let door = Door::open(&documents).await;
    let answer = door.get("/old?a=b").await;
    assert_eq!(answer.status, StatusCode::PERMANENT_REDIRECT);
    assert_eq!(answer.header("location"), Some("https://api.bank.example/new?a=b"));
    let answer = door.send(request("POST", "/down", "a body that nobody reads")).await;
    assert_eq!((answer.status, answer.text().as_str()), (StatusCode::SERVICE_UNAVAILABLE, "back soon"));
    assert_eq!(answer.header("retry-after"), Some("60"));
    assert_eq!(door.send(request("HEAD", "/down", "")).await.text(), "");
    door.app().assert_untouched();
    let record = door.edge.records_with(1, &[("route_name", json!("payments/api/old"))]).await.remove(0);
    assert_eq!(record["response_code_details"], "redirect");
    assert_eq!(record["decision"], "allowed");
}

#[tokio::test]
async fn a_rewritten_request_reaches_the_upstream_with_the_routes_headers() {
    let documents = routes(
        "  - name: v1
    match: [{uri: {prefix: /v1/}}]
    rewrite: {uri: /, authority: ledger.internal}
    headers:
      request: {set: {x-edge: 'yes'}, add: {x-list: b}, remove: [x-secret]}
      response: {set: {x-served-by: edge}, remove: [content-type]}
    route: [{destination: {host: ledger}}]
",
    );
    let door = Door::open(&documents).await;
    let sent = with(
        request("GET", "/v1/entries?q=1", ""),
        &[("x-edge", "forged"), ("x-list", "a"), ("x-secret", "s")],
    );
    let answer = door.send(sent).await;
    assert_eq!(answer.header("x-served-by"), Some("edge"));
    assert_eq!(answer.header("content-type"), None);
    let received = door.app().last();
    assert_eq!(received.target, "/entries?q=1");
    assert_eq!(received.headers["host"], "ledger.internal");
    assert_eq!(received.headers["x-forwarded-host"], "api.bank.example");
    assert_eq!(received.headers.get_all("x-edge").iter().collect::<Vec<_>>(), ["yes"]);
    assert_eq!(received.headers.get_all("x-list").iter().collect::<Vec<_>>(), ["a", "b"]);
    assert!(!received.headers.contains_key("x-secret"));
}

#[tokio::test]
async fn weights_share_requests_out() {
    let other = Upstream::start("other").await;
    let documents = routes(
        "  - route:
    - {destination: {host: ledger}, weight: 3}
    - {destination: {host: other.example}, weight: 1, headers: {request: {set: {x-canary: 'yes'}}}}
",
    );
    let door = Door::open(&format!("{documents}---{}", external("other.example", other.address()))).await;
    let stream = door.connect(crate::kit::HTTP2).await;
    let (mut sender, connection) = hyper::client::conn::http2::handshake(
        hyper_util::rt::TokioExecutor::new(),
        hyper_util::rt::TokioIo::new(stream),
    )
    .await
    .unwrap();
    tokio::spawn(connection);
    for _ in 0..200 {
        let request = super::door::request_h2("GET", "api.bank.example", "/", "");
        let answer = sender.send_request(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        palisade_tests::client::read(answer).await.unwrap();
    }
    let (ledger, canary) = (door.app().received().len(), other.received().len());
    // 150 and 50 are due; the odds against leaving these bounds are beyond one in ten million.
    assert!((115..=180).contains(&ledger) && ledger + canary == 200, "{ledger} and {canary}");
    assert_eq!(other.last().headers["x-canary"], "yes");
    assert!(!door.app().last().headers.contains_key("x-canary"));
}

#[tokio::test]
async fn a_routes_timeout_ends_the_wait_for_an_answer() {
    let documents = routes("  - {name: slow, timeout: 200ms, route: [{destination: {host: ledger}}]}\n");
    let door = Door::open(&documents).await;
    assert_eq!(door.get("/slow/60000").await.status, StatusCode::GATEWAY_TIMEOUT);
    door.edge.records_with(1, &[("response_flags", json!("UT"))]).await;
    assert_eq!(door.get("/slow/1").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_destination_that_is_not_there_is_503_and_comes_with_the_next_policy() {
    let documents = routes("  - {route: [{destination: {host: nobody.example}}]}\n");
    let door = Door::open(&documents).await;
    assert_eq!(door.get("/").await.status, StatusCode::SERVICE_UNAVAILABLE);
    door.edge.records_with(1, &[("reason", json!("route_target_unknown"))]).await;
    let outside = Upstream::start("nobody").await;
    door.mesh.world.policy("entry.yaml", &external("nobody.example", outside.address()));
    until("the new destination", async || {
        let answer = door.get("/").await;
        if answer.status == StatusCode::OK { Ok(()) } else { Err(answer.status) }
    })
    .await;
    assert_eq!(outside.received().len(), 1);
}

#[tokio::test]
async fn a_port_that_no_gateway_serves_is_closed() {
    let gateway = super::door::GATEWAY
        .replace("  - {port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}\n", "");
    let documents = format!("{gateway}---{}---{}", super::door::EVERYBODY, super::door::TO_LEDGER);
    let door = Door::with(&documents, |edge| edge).await;
    let mut socket = tokio::net::TcpStream::connect(door.plain()).await.unwrap();
    let answer = palisade_tests::client::raw(&mut socket, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(answer.is_empty(), "{answer:?}");
    door.edge.records_with(1, &[("response_code_details", json!("no_gateway"))]).await;
    assert_eq!(door.send(request_to("api.bank.example", "GET", "/", "")).await.status, StatusCode::OK);
}
