//! RequestGuard at the edge: what does not have the form that is asked for reaches no service, or not whole.

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use palisade_tests::client::{self, Answer};
use palisade_tests::{Scripted, Upstream, until};
use serde_json::{Value, json};

use super::door::{Door, EVERYBODY, GATEWAY, HOST, TO_LEDGER, request, request_h2, with};
use super::routes::{external, routes};
use crate::guard::assert_late_overruns_end_the_upstream_connection;
use crate::kit::HTTP2;

/// A guard of the edge with these rules.
fn guard(rules: &str) -> String {
    format!(
        "
apiVersion: palisade.mesh/v1
kind: RequestGuard
metadata: {{name: api, namespace: payments}}
spec:
  selector: {{matchLabels: {{app: edge}}}}
  rules:
{rules}
"
    )
}

/// Two routes; the guard's first rule is for one of them.
const TWO_ROUTES: &str = "
  - {name: transfers, match: [{uri: {prefix: /transfers}}], route: [{destination: {host: ledger}}]}
  - {name: all, route: [{destination: {host: ledger}}]}
";

const TRANSFERS: &str = "
  - name: transfers
    match: [{routes: [transfers]}]
    allowedMethods: [POST, PUT]
    contentTypes: [application/json]
    maxBodyBytes: 8
  - name: all
    maxHeaders: 12
    maxHeaderBytes: 600
    maxUriBytes: 40
    forbidHeaders: [x-debug, 'x-internal-*']
    stripHeaders: [x-trace]
    forbidDuplicates: [authorization, x-amount]
    underscores: REJECT
";

async fn open() -> Door {
    Door::open(&format!("{}---{}", routes(TWO_ROUTES), guard(TRANSFERS))).await
}

fn json_request(method: &str, target: &str, body: &str) -> Request<Full<Bytes>> {
    with(request(method, target, body), &[("content-type", "application/json")])
}

/// One record with this reason, which a rule of the guard gave.
async fn refused(door: &Door, reason: &str, rule: u64) -> Value {
    let record = door.edge.records_with(1, &[("reason", json!(reason))]).await.remove(0);
    assert_eq!((&record["policy"], &record["rule"]), (&json!("payments/api"), &json!(rule)), "{record}");
    assert_eq!(record["decision"], "denied", "{record}");
    record
}

#[tokio::test]
async fn what_a_rule_does_not_take_reaches_no_service_and_the_record_names_the_rule() {
    let door = open().await;
    let long = "x".repeat(600);
    let many: Vec<_> = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"].map(|n| (n, "1")).into();
    let get = |headers| with(request("GET", "/", ""), headers);
    let rows: Vec<(Request<Full<Bytes>>, u16, &str, u64)> = vec![
        (request("GET", "/transfers", ""), 405, "guard_method", 0),
        (request("POST", "/transfers", "{}"), 415, "guard_content_type", 0),
        (json_request("POST", "/transfers", "123456789"), 413, "guard_body_bytes", 0),
        (request("GET", &format!("/{}", "x".repeat(40)), ""), 414, "guard_uri_bytes", 1),
        (request("GET", &format!("/?{}", "x".repeat(39)), ""), 414, "guard_uri_bytes", 1),
        (get(&many), 431, "guard_headers", 1),
        (get(&[("x", &long)]), 431, "guard_header_bytes", 1),
        (get(&[("x-debug", "1")]), 400, "guard_header_forbidden", 1),
        (get(&[("x-internal-user", "1")]), 400, "guard_header_forbidden", 1),
        (get(&[("x_a", "1")]), 400, "guard_header_underscore", 1),
        (get(&[("x-amount", "1"), ("x-amount", "1")]), 400, "guard_header_duplicate", 1),
    ];
    for (sent, status, reason, rule) in rows {
        let described = format!("{sent:?}");
        let answer = door.send(sent).await;
        assert_eq!(answer.status, status, "{described}: {}", answer.text());
        assert!(!answer.text().contains("guard"), "{}", answer.text());
        let allow = answer.header("allow");
        assert_eq!(allow, (status == 405).then_some("POST, PUT"), "{described}");
        let record = refused(&door, reason, rule).await;
        assert_eq!(record["response_code"], status, "{record}");
    }
    door.app().assert_untouched();
    assert_eq!(
        door.edge.metric("palisade_guard_refused_total", &["payments/api", "guard_method"]).await,
        1.0
    );

    let passing = with(json_request("POST", "/transfers", "12345678"), &[("x-trace", "1")]);
    assert_eq!(door.send(passing).await.status, StatusCode::OK);
    let received = door.app().last();
    assert!(received.complete && received.body == b"12345678" && !received.headers.contains_key("x-trace"));
    // The other route has its own rules alone.
    assert_eq!(door.send(request("GET", "/other", "123456789")).await.status, StatusCode::OK);
}

/// Raw chunks of these bytes each; the last one empty.
fn chunked(path: &str, chunks: &[&str], trailers: &str) -> Vec<u8> {
    let announced: Vec<_> = trailers.lines().filter_map(|line| Some(line.split_once(':')?.0)).collect();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {HOST}\r\ncontent-type: application/json\r\ntrailer: {}\r\ntransfer-encoding: chunked\r\n\r\n",
        announced.join(", ")
    );
    let body: String = chunks.iter().map(|chunk| format!("{:x}\r\n{chunk}\r\n", chunk.len())).collect();
    format!("{head}{body}0\r\n{trailers}\r\n").into_bytes()
}

fn streamed(
    path: &str,
    pieces: &[&str],
) -> Request<http_body_util::combinators::BoxBody<Bytes, std::convert::Infallible>> {
    let head = Request::builder().method("POST").uri(format!("https://{HOST}{path}"));
    head.header("content-type", "application/json").body(client::streamed(pieces)).unwrap()
}

async fn send_streamed(door: &Door, path: &str, pieces: &[&str]) -> Result<Answer, hyper::Error> {
    client::send_h2(door.connect(HTTP2).await, streamed(path, pieces)).await
}

#[tokio::test]
async fn a_body_that_grows_over_the_bound_never_arrives_whole_and_is_413_not_502() {
    let door = open().await;
    for round in 0..2 {
        let answer = match round {
            0 => door.raw(&chunked("/transfers", &["1234", "5678", "9"], "")).await,
            _ => format!(
                "HTTP/1.1 {}",
                send_streamed(&door, "/transfers", &["1234", "5678", "9"]).await.unwrap().status
            ),
        };
        assert!(answer.starts_with("HTTP/1.1 413"), "{round}: {answer}");
        let record =
            door.edge.records_with(round + 1, &[("reason", json!("guard_body_bytes"))]).await.remove(round);
        assert_eq!((&record["policy"], &record["rule"]), (&json!("payments/api"), &json!(0)), "{record}");
        assert_eq!((&record["response_code"], &record["retry_count"]), (&json!(413), &json!(0)), "{record}");
        let received = door.app().received();
        assert!(received.len() <= 1, "sent again: {received:?}");
        assert!(received.iter().all(|one| !one.complete && one.body.len() <= 8), "{received:?}");
        door.app().clear();
    }
    // To the byte.
    let answer = door.raw(&chunked("/transfers", &["1234", "5678"], "")).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(
        (door.app().last().body.as_slice(), door.app().last().complete),
        (b"12345678".as_slice(), true)
    );
    let answer = send_streamed(&door, "/transfers", &["1234", "5678"]).await.unwrap();
    assert_eq!(answer.status, StatusCode::OK);
    assert!(door.app().last().complete);
}

#[tokio::test]
async fn a_body_that_grows_over_the_bound_late_is_413_and_the_upstream_reads_no_last_chunk() {
    let app = Scripted::start().await;
    let http = "  - {route: [{destination: {host: other.example, port: {number: 80}}}]}\n";
    let small = guard("  - {name: small, maxBodyBytes: 8}");
    let entry = external("other.example", app.address());
    let door = Door::open(&format!("{}---{entry}---{small}", routes(http))).await;
    let connect = async |alpn: &[&[u8]]| door.connect(alpn).await;
    assert_late_overruns_end_the_upstream_connection(&app, HOST, connect).await;
    door.edge.records_with(2, &[("reason", json!("guard_body_bytes")), ("response_code", json!(413))]).await;
}

#[tokio::test]
async fn a_declared_length_over_the_bound_is_refused_without_reading_the_body() {
    let door = open().await;
    let head = format!("POST /transfers HTTP/1.1\r\nhost: {HOST}\r\ncontent-type: application/json\r\n");
    let waiting = format!("{head}expect: 100-continue\r\ncontent-length: 9\r\n\r\n");
    let answer = door.raw(waiting.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    // What follows is a body, whatever it looks like.
    let hidden = format!("GET /hidden HTTP/1.1\r\nhost: {HOST}\r\n\r\n");
    let answer = door.raw(format!("{head}content-length: {}\r\n\r\n{hidden}", hidden.len()).as_bytes()).await;
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    let declared =
        with(request_h2("POST", HOST, "/transfers", "123456789"), &[("content-type", "application/json")]);
    assert_eq!(door.send_h2(declared).await.status, StatusCode::PAYLOAD_TOO_LARGE);
    door.app().assert_untouched();
}

#[tokio::test]
async fn a_body_that_grows_over_the_bound_after_the_answer_began_breaks_both_off_and_the_record_says_so() {
    let documents = "
  - name: all
    maxBodyBytes: 1999
";
    let door = Door::open(&format!("{TO_LEDGER}---{}", guard(documents))).await;
    // The service sends back what it gets, so its answer begins before the body ends.
    let (body, sending) = client::paced();
    let sent = Request::builder().method("POST").uri(format!("https://{HOST}/echo")).body(sending).unwrap();
    let io = TokioIo::new(door.connect(HTTP2).await);
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    body.send(Bytes::from(vec![b'x'; 1000])).await.unwrap();
    let response = sender.send_request(sent).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    body.send(Bytes::from(vec![b'x'; 1000])).await.unwrap();
    let answer = client::read(response).await;
    assert!(answer.is_err(), "taken for whole: {answer:?}");
    let record = refused(&door, "guard_body_bytes", 0).await;
    assert_eq!(record["response_code"], 200, "{record}");
    assert_eq!(record["response_code_details"], "guard_body_bytes_after_response_started", "{record}");
    assert!(!door.app().last().complete);
    assert_eq!(door.app().received().len(), 1);
}

#[tokio::test]
async fn trailers_bring_no_header_that_a_rule_forbids_strips_or_counts() {
    let door = open().await;
    // A codec passes on those that were announced.
    let trailers = "x-debug: 1\r\nx_trace: 1\r\nx-amount: 9\r\nx-internal-a: 1\r\nchecksum: ok\r\n";
    let answer = door.raw(&chunked("/echo", &["abc"], trailers)).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    until("the body's end", async || if door.app().last().complete { Ok(()) } else { Err("more") }).await;
    let arrived = door.app().last().trailers.unwrap_or_default();
    let names: Vec<_> = arrived.keys().map(|name| name.as_str()).collect();
    assert_eq!(names, ["checksum"]);
}

#[tokio::test]
async fn a_preflight_is_answered_on_a_route_whose_guard_takes_post_alone() {
    let cors = "corsPolicy: {allowOrigins: [{exact: 'https://app.bank.example'}], allowMethods: [POST]}";
    let routes = TO_LEDGER.replace("{name: all,", &format!("{{name: all, {cors},"));
    let rules = "
  - {name: all, allowedMethods: [POST], contentTypes: [application/json], forbidHeaders: [x-debug]}
";
    let door = Door::open(&format!("{routes}---{}", guard(rules))).await;
    let origin = ("origin", "https://app.bank.example");
    let preflight = [origin, ("access-control-request-method", "POST")];
    let answer = door.send(with(request("OPTIONS", "/", ""), &preflight)).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.header("access-control-allow-methods"), Some("POST"));
    // All else is asked of it, and OPTIONS that is no preflight is a method like others.
    let debug = [origin, ("access-control-request-method", "POST"), ("x-debug", "1")];
    assert_eq!(door.send(with(request("OPTIONS", "/", ""), &debug)).await.status, StatusCode::BAD_REQUEST);
    let plain = door.send(with(request("OPTIONS", "/", ""), &[origin])).await;
    assert_eq!(plain.status, StatusCode::METHOD_NOT_ALLOWED);
    // A page may read why it is refused.
    assert_eq!(plain.header("access-control-allow-origin"), Some("https://app.bank.example"));
    door.app().assert_untouched();
}

#[tokio::test]
async fn content_types_that_servers_read_differently_are_refused() {
    let door = open().await;
    let post = |lines: &[(&'static str, &str)]| with(request("POST", "/transfers", "{}"), lines);
    for value in [
        "application/json, text/plain",
        "text/plain; a=application/json",
        "application/json/x",
        "application/jsonx",
        "application/json;a",
        "multipart/form-data; boundary=application/json",
    ] {
        let answer = door.send(post(&[("content-type", value)])).await;
        assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{value}");
    }
    let twice = [("content-type", "application/json"), ("content-type", "text/plain")];
    assert_eq!(door.send(post(&twice)).await.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    // Named as hop-by-hop it is removed before anybody looks, so there is none.
    let dropped = [("content-type", "application/json"), ("connection", "content-type, close")];
    assert_eq!(door.send(post(&dropped)).await.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    door.app().assert_untouched();
    for value in ["application/json", "Application/JSON; charset=\"utf-8\""] {
        assert_eq!(door.send(post(&[("content-type", value)])).await.status, StatusCode::OK, "{value}");
    }
}

#[tokio::test]
async fn a_grpc_caller_is_told_in_its_own_way() {
    let door = open().await;
    let call = with(request_h2("POST", HOST, "/transfers", "x"), &[("content-type", "application/grpc")]);
    let answer = door.send_h2(call).await;
    assert_eq!((answer.status, answer.header("grpc-status")), (StatusCode::OK, Some("3")));
    let rules = "
  - {name: all, maxBodyBytes: 8}
";
    let documents = format!("{GATEWAY}---{EVERYBODY}---{TO_LEDGER}---{}", guard(rules));
    let door = Door::speaking("grpc", &documents, |edge| edge).await;
    let mut call = streamed("/transfers", &["1234", "5678", "9"]);
    call.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    let answer = client::send_h2(door.connect(HTTP2).await, call).await.unwrap();
    assert_eq!((answer.status, answer.header("grpc-status")), (StatusCode::OK, Some("8")));
    assert!(door.app().received().iter().all(|one| !one.complete), "{:?}", door.app().received());
}

/// Documents are kept as they are asked for, all other routes lead to another service.
async fn archive() -> (Door, Upstream) {
    let other = Upstream::start("other").await;
    let http = "
  - {name: documents, match: [{uri: {prefix: /documents/}}], route: [{destination: {host: ledger}}]}
  - {name: all, route: [{destination: {host: other.example, port: {number: 80}}}]}
";
    // The edge by its route; the service's own sidecar, which has no routes, by the path.
    let rules = "
  - {name: edge, match: [{routes: [documents], paths: ['/documents/*']}], ambiguousPaths: KEEP}
";
    let ledger = guard(
        "
  - {name: files, match: [{paths: ['/documents/*']}], ambiguousPaths: KEEP}
",
    )
    .replace("name: api", "name: files")
    .replace("app: edge", "app: ledger");
    let deny = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: secrets, namespace: payments}
spec: {selector: {matchLabels: {app: edge}}, action: DENY, rules: [{to: [{operation: {paths: [/documents/secret, '/documents/secret/*', '*/hidden', /admin]}}]}]}
---
apiVersion: palisade.mesh/v1
kind: RateLimitPolicy
metadata: {name: documents, namespace: payments}
spec: {selector: {matchLabels: {app: edge}}, limits: [{name: dear, match: [{paths: [/documents/dear]}], limit: 1, window: 1h}]}
";
    let outside = external("other.example", other.address());
    let door =
        Door::open(&format!("{}---{outside}---{}---{ledger}---{deny}", routes(http), guard(rules))).await;
    until("the ledger's guard", async || match door.get("/documents/%2F").await.status {
        StatusCode::OK => Ok(()),
        status => Err(status),
    })
    .await;
    door.app().clear();
    (door, other)
}

#[tokio::test]
async fn an_ambiguous_path_is_kept_on_the_route_of_its_rule_and_nowhere_else() {
    let (door, other) = archive().await;
    for path in ["/documents/a%2Fb", "/documents/a;v=2/b", "/documents/50%25"] {
        assert_eq!(door.get(path).await.status, StatusCode::OK, "{path}");
        assert_eq!(door.app().last().target, path);
        let record = door.edge.records_with(1, &[("path", json!(path))]).await.remove(0);
        assert_eq!(record["path_kept_by"], "ns[payments]-policy[api]-rule[0]", "{record}");
    }
    door.app().clear();
    for path in [
        "/other/a%2Fb",
        "/documents%2Fa",
        "/documents;/a%2Fb",
        "/documents/..%2Fadmin",
        "/documents/%2e%2e%2Fadmin",
        "/documents/..%5Cadmin",
        "/documents/..%252Fadmin",
        "/documents/..;/admin",
        "/documents/..;a=b/admin",
        "/documents/x%3F%2F..%2F..%2Fadmin",
        "/documents/%2500",
        "/documents/%c0%ae%c0%ae/admin",
        "/%2Fdocuments/a",
        "//documents/a%2Fb",
        // A spelling is no way around a limit.
        "/documents/dear;x",
        "/documents/dear%3Fx",
    ] {
        let answer = door
            .raw(format!("GET {path} HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n").as_bytes())
            .await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{path}: {answer}");
    }
    // What a rule denies is denied in every reading.
    for path in [
        "/documents/secret%2F",
        "/documents/secret;x",
        "/documents/%2Fsecret",
        "/documents/secret%2Fa",
        "/documents/%73ecret%3Fa",
        // Parameters cut before escapes are decoded, and a query that is none.
        "/documents/secret;%2Fx",
        "/documents/a%3F%2Fhidden",
        "/documents/a%23%2Fhidden",
        "/documents/a%253F%252Fhidden",
    ] {
        assert_eq!(door.get(path).await.status, StatusCode::FORBIDDEN, "{path}");
    }
    door.app().assert_untouched();
    other.assert_untouched();
}

#[tokio::test]
async fn a_mirror_gets_no_whole_copy_of_a_body_that_grew_over_its_bound() {
    let copies = Upstream::start("copy").await;
    let http = "
  - {name: transfers, route: [{destination: {host: ledger}}], mirror: {host: copy.example}}
";
    let outside = external("copy.example", copies.address());
    let rules = "
  - {name: small, maxBodyBytes: 8}
";
    let door = Door::open(&format!("{}---{outside}---{}", routes(http), guard(rules))).await;
    let answer = send_streamed(&door, "/transfers", &["1234", "5678", "9"]).await.unwrap();
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    // Both have their records once both have ended.
    door.edge.records_with(2, &[("path", json!("/transfers"))]).await;
    for received in copies.received().into_iter().chain(door.app().received()) {
        assert!(!received.complete && received.body.len() <= 8, "{received:?}");
    }
}
