//! Routes of sidecars: where a call goes, as what, and whose routes count.

use http::StatusCode;
use palisade_tests::{Sidecar, Upstream, World, client, until};
use serde_json::json;

use super::{BANK, Caller, calls, request};
use crate::edge::door::with;
use crate::edge::routes::external;
use crate::fleet::{ALLOW_WEB, ledger, until_endpoints, world};

const VERSIONS: &str = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: ledger, namespace: payments}
spec:
  host: ledger
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}}
";

/// A ledger in two versions, and `payments/web` that calls it.
struct Versions {
    world: World,
    apps: [Upstream; 2],
    web: Sidecar,
    _sidecars: [Sidecar; 2],
}

impl Versions {
    async fn start(http: &str) -> Self {
        let world = world().await;
        world.apply(&format!("{ALLOW_WEB}---{VERSIONS}---{}", calls("payments", "ledger", http))).await;
        let apps = [Upstream::start("v1").await, Upstream::start("v2").await];
        let instance = async |version: &str, app: &Upstream| {
            let token = world.token("payments/ledger", &["--label", &format!("version={version}")]).await;
            let sidecar = world.sidecar_with_token(&token, &format!("ledger-{version}"));
            sidecar.serve(8080, app.address()).start().await
        };
        let sidecars = [instance("v1", &apps[0]).await, instance("v2", &apps[1]).await];
        let web = world.sidecar("payments/web").await.outbound().start().await;
        until_endpoints(&web, "ledger.payments", 2).await;
        Self { world, apps, web, _sidecars: sidecars }
    }

    async fn counts(&self, requests: usize, headers: &[(&'static str, &str)]) -> [usize; 2] {
        self.apps.iter().for_each(Upstream::clear);
        for _ in 0..requests {
            let asked = with(client::request("GET", &ledger("/"), ""), headers);
            assert_eq!(client::send(self.web.http_proxy(), asked).await.status, StatusCode::OK);
        }
        [self.apps[0].received().len(), self.apps[1].received().len()]
    }
}

#[tokio::test]
async fn a_header_chooses_the_subset_and_nobody_else_gets_the_request() {
    let mesh = Versions::start(
        "  - {name: beta, match: [{headers: {x-beta: {exact: 'yes'}}}], route: [{destination: {host: ledger, subset: v2}}]}
  - {name: rest, route: [{destination: {host: ledger, subset: v1}}]}
",
    )
    .await;
    assert_eq!(mesh.counts(20, &[("x-beta", "yes")]).await, [0, 20]);
    assert_eq!(mesh.counts(20, &[("x-beta", "no")]).await, [20, 0]);
    let records = mesh.web.records_with(20, &[("route_name", json!("payments/calls/beta"))]).await;
    assert!(records.iter().all(|record| record["upstream_cluster"] == "outbound|8080|v2|ledger.payments"));
    // A push moves the calls; none is lost.
    let all = "  - {name: all, route: [{destination: {host: ledger, subset: v2}}]}\n";
    mesh.world.apply(&calls("payments", "ledger", all)).await;
    assert_eq!(mesh.counts(20, &[]).await, [0, 20]);
}

#[tokio::test]
async fn weights_share_calls_out_among_subsets() {
    let mesh = Versions::start(
        "  - route:
    - {destination: {host: ledger, subset: v1}, weight: 75}
    - {destination: {host: ledger, subset: v2}, weight: 25}
",
    )
    .await;
    let [v1, v2] = mesh.counts(200, &[]).await;
    // 150 and 50 are due; the odds against leaving these bounds are beyond one in a million.
    assert!((118..=182).contains(&v1) && v1 + v2 == 200, "{v1} and {v2}");
}

/// ISTIO-SECURITY-2026-002: a namespace routed what others send to the service of a third one.
#[tokio::test]
async fn routes_of_another_namespace_take_no_calls_but_its_own() {
    let world = world().await;
    let anybody = ALLOW_WEB.replace("test.mesh/ns/payments/sa/web", "'*'");
    let stolen = "  - {name: stolen, directResponse: {status: 418}}\n";
    world.apply(&format!("{anybody}---{}", calls("shop", "ledger.payments", stolen))).await;
    let app = Upstream::start("ledger").await;
    let _ledger = world.sidecar("payments/ledger").await.serve(8080, app.address()).start().await;
    let (web, till) = (world.sidecar("payments/web").await, world.sidecar("shop/till").await);
    let (web, till) = tokio::join!(web.outbound().start(), till.outbound().start());
    for sidecar in [&web, &till] {
        until_endpoints(sidecar, "ledger.payments", 1).await;
    }
    assert_eq!(client::get(web.http_proxy(), &ledger("/")).await.text(), "hello from ledger");
    assert_eq!(app.received().len(), 1);
    assert_eq!(client::get(till.http_proxy(), &ledger("/")).await.status.as_u16(), 418);
    assert_eq!(app.received().len(), 1);
    // What the owner of the host writes holds for every caller, but goes behind a caller's own.
    let closed = "  - {name: closed, directResponse: {status: 410}}\n";
    world.apply(&calls("payments", "ledger", closed)).await;
    assert_eq!(client::get(web.http_proxy(), &ledger("/")).await.status, StatusCode::GONE);
    assert_eq!(client::get(till.http_proxy(), &ledger("/")).await.status.as_u16(), 418);
    assert_eq!(app.received().len(), 1);
}

#[tokio::test]
async fn the_upstream_gets_the_rewritten_target_and_the_headers_of_the_route() {
    let caller = Caller::routed(
        "  - name: api
    match: [{uri: {prefix: /api/}}]
    rewrite: {uri: /v1/, authority: internal.example}
    headers:
      request: {set: {x-tenant: a}, remove: [x-gone]}
      response: {set: {x-answered-by: route}}
    route: [{destination: {host: bank.example}}]
",
    )
    .await;
    let sent = with(request("POST", "/api/x?q=1", "pay"), &[("x-gone", "1"), ("x-tenant", "b")]);
    let answer = caller.send(sent).await;
    assert_eq!((answer.text().as_str(), answer.header("x-answered-by")), ("hello from bank", Some("route")));
    let received = caller.bank.last();
    assert_eq!((received.target.as_str(), received.body.as_slice()), ("/v1/x?q=1", b"pay".as_slice()));
    assert_eq!(received.headers["host"], "internal.example");
    assert_eq!(received.headers["x-tenant"], "a");
    assert!(!received.headers.contains_key("x-gone"));
    let record = &caller.sidecar.records_with(1, &[("direction", json!("outbound"))]).await[0];
    assert_eq!(
        (&record["route_name"], &record["path"], &record["authority"]),
        (&json!("payments/calls/api"), &json!("/api/x"), &json!(BANK)),
        "{record}"
    );
}

#[tokio::test]
async fn a_call_that_no_route_is_for_is_not_found_and_goes_nowhere() {
    let caller = Caller::routed(
        "  - {name: get, match: [{method: {exact: GET}, uri: {exact: /a}}], route: [{destination: {host: bank.example}}]}\n",
    )
    .await;
    assert_eq!(caller.get("/a").await.status, StatusCode::OK);
    caller.bank.clear();
    let answer = caller.send(request("POST", "/a", "pay")).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert!(answer.header("x-palisade-decision-id").is_some());
    caller.bank.assert_untouched();
    let fields = [("reason", json!("no_route")), ("response_flags", json!("NR"))];
    caller.sidecar.records_with(1, &fields).await;
}

#[tokio::test]
async fn redirects_and_direct_answers_are_the_sidecars_own() {
    let caller = Caller::routed(
        "  - {name: moved, match: [{uri: {prefix: /old}}], redirect: {uri: /new, redirectCode: 308}}
  - {name: closed, directResponse: {status: 503, body: {string: later}}, headers: {response: {set: {retry-after: '9'}}}}
",
    )
    .await;
    let moved = caller.get("/old").await;
    assert_eq!((moved.status.as_u16(), moved.header("location")), (308, Some("http://bank.example/new")));
    let closed = caller.send(request("POST", "/x", "pay")).await;
    assert_eq!(
        (closed.status.as_u16(), closed.text().as_str(), closed.header("retry-after")),
        (503, "later", Some("9"))
    );
    caller.bank.assert_untouched();
    let records = caller.sidecar.records_with(2, &[("direction", json!("outbound"))]).await;
    let mut details: Vec<_> = records.iter().filter_map(|r| r["response_code_details"].as_str()).collect();
    details.sort_unstable();
    assert_eq!(details, ["direct_response", "redirect"]);
}

#[tokio::test]
async fn a_destination_that_the_sidecar_was_not_told_of_gives_503_and_not_another_one() {
    let caller = Caller::routed(
        "  - {name: gone, match: [{uri: {prefix: /gone}}], route: [{destination: {host: nowhere.example}}]}
  - {name: subset, route: [{destination: {host: bank.example, subset: v9}}]}
",
    )
    .await;
    for target in ["/gone", "/subset"] {
        assert_eq!(caller.get(target).await.status, StatusCode::SERVICE_UNAVAILABLE, "{target}");
    }
    caller.bank.assert_untouched();
    let fields = [("reason", json!("route_target_unknown")), ("response_flags", json!("NC"))];
    caller.sidecar.records_with(2, &fields).await;
}

#[tokio::test]
async fn a_timeout_of_a_route_ends_the_wait_for_an_answer() {
    let caller = Caller::routed(
        "  - {name: short, match: [{uri: {prefix: /slow}}], timeout: 200ms, retries: {attempts: 0}, route: [{destination: {host: bank.example}}]}
  - {name: rest, route: [{destination: {host: bank.example}}]}
",
    )
    .await;
    assert_eq!(caller.get("/slow/30000").await.status, StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(caller.get("/slow/1").await.status, StatusCode::OK);
    assert_eq!(caller.bank.received().len(), 2);
    let fields = [("response_flags", json!("UT")), ("route_name", json!("payments/calls/short"))];
    caller.sidecar.records_with(1, &fields).await;
}

/// What may be repeated is the sidecar's to say, how often and after what the route's.
#[tokio::test]
async fn retries_of_a_route_repeat_what_does_no_harm_and_no_payment() {
    let caller = Caller::routed(
        "  - {name: often, match: [{uri: {prefix: /status}, headers: {x-retry: {exact: 'yes'}}}], retries: {attempts: 3, retryOn: '503', backoff: 1ms}, route: [{destination: {host: bank.example}}]}
  - {name: never, match: [{headers: {x-retry: {exact: 'no'}}}], retries: {attempts: 0}, route: [{destination: {host: bank.example}}]}
  - {name: rest, route: [{destination: {host: bank.example}}]}
",
    )
    .await;
    for (method, target, retry, tries) in [
        ("GET", "/status/503", "yes", 4),
        ("PUT", "/status/503", "yes", 4),
        ("POST", "/status/503", "yes", 1),
        ("PATCH", "/status/503", "yes", 1),
        ("GET", "/status/500", "yes", 1),
        ("GET", "/status/503", "no", 1),
        ("GET", "/status/503", "", 1),
    ] {
        caller.bank.clear();
        let asked = with(request(method, target, "pay"), &[("x-retry", retry)]);
        let answer = caller.send(asked).await;
        assert_eq!(answer.status.as_str(), &target[8..], "{method} {retry}");
        assert_eq!(caller.bank.received().len(), tries, "{method} {target} {retry}");
        assert!(caller.bank.received().iter().all(|received| received.body == b"pay"));
    }
}

#[tokio::test]
async fn a_try_has_a_time_of_its_own_within_that_of_the_request() {
    let caller = Caller::routed(
        "  - {name: all, timeout: 20s, retries: {attempts: 2, perTryTimeout: 200ms, retryOn: reset}, route: [{destination: {host: bank.example}}]}\n",
    )
    .await;
    assert_eq!(caller.get("/slow/30000").await.status, StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(caller.bank.received().len(), 3);
    caller.bank.clear();
    let paid = caller.send(request("POST", "/slow/30000", "pay")).await;
    assert_eq!(paid.status, StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(caller.bank.received().len(), 1);
}

#[tokio::test]
async fn a_mirror_of_a_sidecars_route_gets_a_copy_that_the_application_does_not_wait_for() {
    let copies = Upstream::start("copy").await;
    let caller = Caller::routed(
        "  - {name: all, route: [{destination: {host: bank.example}}], mirror: {host: copy.example}}\n",
    )
    .await;
    caller.world.policy("copy.yaml", &external("copy.example", copies.address()));
    until("a copy", async || {
        assert_eq!(caller.send(request("POST", "/pay", "pay")).await.text(), "hello from bank");
        if copies.received().iter().any(|copy| copy.complete) { Ok(()) } else { Err(copies.received()) }
    })
    .await;
    let copy = copies.last();
    assert_eq!((copy.target.as_str(), copy.body.as_slice()), ("/pay", b"pay".as_slice()));
    assert_eq!(copy.headers["host"], "bank.example-shadow");
}

/// The application may be a browser's: its sidecar answers preflights as an edge does.
#[tokio::test]
async fn a_preflight_is_answered_by_the_sidecar_whose_route_says_who_may_ask() {
    let caller = Caller::routed(
        "  - {name: all, corsPolicy: {allowOrigins: [{exact: 'https://app.example'}], allowMethods: [POST]}, route: [{destination: {host: bank.example}}]}
",
    )
    .await;
    let origin = [("origin", "https://app.example"), ("access-control-request-method", "POST")];
    let preflight = caller.send(with(request("OPTIONS", "/pay", ""), &origin)).await;
    assert_eq!(preflight.header("access-control-allow-methods"), Some("POST"));
    caller.bank.assert_untouched();
    let answer = caller.send(with(request("POST", "/pay", "pay"), &origin[..1])).await;
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.example"));
    assert_eq!(caller.bank.received().len(), 1);
}

#[tokio::test]
async fn a_local_port_takes_the_routes_of_the_service_that_it_leads_to() {
    let http = "  - {name: api, match: [{port: 80, authority: {exact: bank.example}}], rewrite: {uri: /v1/}, route: [{destination: {host: bank.example}}]}\n";
    let documents = calls("payments", BANK, http);
    let to = format!("{BANK}:80");
    let caller = Caller::start("HTTP", &documents, |sidecar| sidecar.local_port(&to)).await;
    let port = caller.sidecar.local_port(&to);
    let mut asked = client::request("GET", "/x", "");
    asked.headers_mut().insert("host", port.to_string().parse().unwrap());
    assert_eq!(client::send(port, asked).await.status, StatusCode::OK);
    assert_eq!(caller.bank.last().target, "/v1/x");
}

/// A WebSocket takes a route as any other request does.
#[tokio::test]
async fn an_upgrade_takes_its_route() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let caller = Caller::routed(
        "  - {name: ws, match: [{uri: {prefix: /ws}}], rewrite: {uri: /upgrade}, route: [{destination: {host: bank.example}}]}\n",
    )
    .await;
    let mut socket = tokio::net::TcpStream::connect(caller.proxy()).await.unwrap();
    let asked = format!(
        "GET http://{BANK}/ws HTTP/1.1\r\nhost: {BANK}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n"
    );
    socket.write_all(asked.as_bytes()).await.unwrap();
    let mut head = [0; 12];
    socket.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 101");
    assert_eq!(caller.bank.last().target, "/upgrade");
}
