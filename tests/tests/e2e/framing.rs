//! Requests that two readers could cut differently: refused, and nothing of them reaches the service.

use http::StatusCode;
use palisade_tests::client;
use palisade_tests::wait::until;

use crate::kit::{ALLOW_MESH, HTTP1, Mesh, get, url};

/// Requests for `/admin` hidden behind an ambiguous first request. `{}` stands for the hidden one.
pub(crate) const AMBIGUOUS: &[(&str, &str)] = &[
    ("two different lengths", "content-length: 0\r\ncontent-length: 4\r\n\r\n{}"),
    ("list of different lengths", "content-length: 0, 4\r\n\r\n{}"),
    ("length with plus", "content-length: +5\r\n\r\nabcde{}"),
    ("length in hex", "content-length: 0x5\r\n\r\nabcde{}"),
    ("negative length", "content-length: -1\r\n\r\n{}"),
    ("length of 2^64", "content-length: 18446744073709551616\r\n\r\n{}"),
    ("length with letters", "content-length: 5a\r\n\r\nabcde{}"),
    ("unknown coding", "transfer-encoding: xchunked\r\n\r\n0\r\n\r\n{}"),
    ("chunked not last", "transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n{}"),
    ("chunked twice", "transfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n{}"),
    (
        "two lines, chunked first",
        "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n{}",
    ),
    (
        "two lines, chunked both",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{}",
    ),
    ("vertical tab", "transfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n{}"),
    ("space before colon", "transfer-encoding : chunked\r\n\r\n0\r\n\r\n{}"),
    ("space before colon of length", "content-length : 4\r\n\r\n{}"),
    ("folded header", "x-a: 1\r\n transfer-encoding: chunked\r\n\r\n{}"),
    ("bare CR in a header", "x-a: 1\rtransfer-encoding: chunked\r\n\r\n{}"),
    ("NUL in a header", "x-a: 1\x002\r\n\r\n{}"),
    ("NUL in a name", "x\0a: 1\r\n\r\n{}"),
    ("chunk size overflow", "transfer-encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n{}"),
    ("chunk size with sign", "transfer-encoding: chunked\r\n\r\n+3\r\nabc\r\n0\r\n\r\n{}"),
    ("chunk size in 0x", "transfer-encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n{}"),
    ("bare LF after a chunk size", "transfer-encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n{}"),
    ("chunk longer than its size", "transfer-encoding: chunked\r\n\r\n3\r\nabcdef\r\n0\r\n\r\n{}"),
    ("bare LF in an extension", "transfer-encoding: chunked\r\n\r\n3;a=\nb\r\nabc\r\n0\r\n\r\n{}"),
];

const HIDDEN: &str = "GET /admin HTTP/1.1\r\nhost: ledger.payments:8080\r\n\r\n";

const ONLY_PUBLIC: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: public, namespace: payments}
spec: {action: ALLOW, rules: [{to: [{operation: {paths: ['/public', '/echo', '/status/*', '/upgrade']}}]}]}
";

pub(crate) fn statuses(answer: &str) -> Vec<&str> {
    answer.split("HTTP/1.1 ").skip(1).filter_map(|rest| rest.get(..3)).collect()
}

#[tokio::test]
async fn ambiguous_framing_is_refused_and_hides_no_second_request() {
    let mesh = Mesh::start(ONLY_PUBLIC).await;
    let ordinary = "POST /echo HTTP/1.1\r\nhost: ledger.payments:8080\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n\
         3;ext=1\r\nabc\r\n0\r\n\r\n";
    let answer = mesh.raw("payments/web", ordinary.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(mesh.app.last().body, b"abc");
    for (what, rest) in AMBIGUOUS {
        mesh.app.clear();
        let rest = rest.replace("{}", HIDDEN);
        let text = format!("POST /public HTTP/1.1\r\nhost: ledger.payments:8080\r\n{rest}");
        let answer = mesh.raw("payments/web", text.as_bytes()).await;
        let statuses = statuses(&answer);
        assert_eq!(statuses, ["400"], "{what}: {answer}");
        for received in mesh.app.received() {
            assert!(received.target != "/admin" && !received.complete, "{what}: {received:?}");
        }
    }
}

/// RFC 9112 section 6.1 would let a server read such a request by its chunks alone; a server before it may not.
#[tokio::test]
async fn a_request_with_two_framings_is_refused_and_the_connection_ends() {
    let mesh = Mesh::start(ONLY_PUBLIC).await;
    for lines in [
        "content-length: 4\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 4",
        "content-length: 4\r\ncontent-length: 5\r\ntransfer-encoding: chunked",
    ] {
        mesh.app.clear();
        let text = format!(
            "POST /public HTTP/1.1\r\nhost: ledger.payments:8080\r\n{lines}\r\n\r\n3\r\nabc\r\n0\r\n\r\n{HIDDEN}{HIDDEN}"
        );
        let answer = mesh.raw("payments/web", text.as_bytes()).await;
        assert_eq!(statuses(&answer), ["400"], "{lines}: {answer}");
        mesh.app.assert_untouched();
    }
}

#[tokio::test]
async fn refuses_request_lines_and_hosts_that_are_not_plain() {
    let mesh = Mesh::open().await;
    let rows = [
        (
            "HTTP/1.0 with chunked",
            "POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        ("no host", "GET / HTTP/1.1\r\n\r\n"),
        ("two hosts", "GET / HTTP/1.1\r\nhost: ledger.payments:8080\r\nhost: other.payments\r\n\r\n"),
        ("two equal hosts", "GET / HTTP/1.1\r\nhost: ledger.payments\r\nhost: ledger.payments\r\n\r\n"),
        ("host with a path", "GET / HTTP/1.1\r\nhost: ledger.payments/admin\r\n\r\n"),
        ("host with user info", "GET / HTTP/1.1\r\nhost: me@ledger.payments\r\n\r\n"),
        ("URI and host differ", "GET http://other.payments/ HTTP/1.1\r\nhost: ledger.payments:8080\r\n\r\n"),
        ("CONNECT", "CONNECT ledger.payments:8080 HTTP/1.1\r\nhost: ledger.payments:8080\r\n\r\n"),
        ("no leading slash", "GET admin HTTP/1.1\r\nhost: ledger.payments:8080\r\n\r\n"),
        ("two spaces", "GET  / HTTP/1.1\r\nhost: ledger.payments:8080\r\n\r\n"),
        ("tab", "GET\t/ HTTP/1.1\r\nhost: ledger.payments:8080\r\n\r\n"),
        ("HTTP/3.0", "GET / HTTP/3.0\r\nhost: ledger.payments:8080\r\n\r\n"),
        ("method with a space", "GE T / HTTP/1.1\r\nhost: ledger.payments:8080\r\n\r\n"),
        ("rubbish", "\x16\x03\x01\0\0\r\n\r\n"),
    ];
    for (what, text) in rows {
        let answer = mesh.raw("payments/web", text.as_bytes()).await;
        assert!(!answer.contains(" 200 "), "{what}: {answer}");
        let received = mesh.app.received();
        assert!(received.is_empty(), "{what}: {received:?}");
    }
}

#[tokio::test]
async fn a_pipelined_request_is_judged_on_its_own() {
    let mesh = Mesh::start(ONLY_PUBLIC).await;
    let text = "GET /public HTTP/1.1\r\nhost: ledger.payments:8080\r\ncontent-length: 3\r\n\r\nabc\
                GET /admin HTTP/1.1\r\nhost: ledger.payments:8080\r\n\r\n\
                GET /public HTTP/1.1\r\nhost: ledger.payments:8080\r\nconnection: close\r\n\r\n";
    let answer = mesh.raw("payments/web", text.as_bytes()).await;
    assert_eq!(statuses(&answer), ["200", "403", "200"], "{answer}");
    let received = mesh.app.received();
    let targets: Vec<_> = received.iter().map(|one| one.target.as_str()).collect();
    assert_eq!(targets, ["/public", "/public"]);
    assert_eq!(received[0].body, b"abc");
}

#[tokio::test]
async fn bytes_behind_an_upgrade_wait_for_the_answer_and_a_refused_upgrade_opens_no_tunnel() {
    let mesh = Mesh::start(ONLY_PUBLIC).await;
    let upgrade = "connection: upgrade\r\nupgrade: websocket\r\n";
    for path in ["/public", "/status/404"] {
        mesh.app.clear();
        let text = format!("GET {path} HTTP/1.1\r\nhost: ledger.payments:8080\r\n{upgrade}\r\n{HIDDEN}");
        let answer = mesh.raw("payments/web", text.as_bytes()).await;
        assert!(!answer.starts_with("HTTP/1.1 101"), "{answer}");
        assert!(mesh.app.received().iter().all(|one| one.target != "/admin"), "{path}: tunnelled");
        assert!(statuses(&answer).get(1).is_none_or(|status| *status == "403"), "{answer}");
    }
    let text = format!("GET /admin HTTP/1.1\r\nhost: ledger.payments:8080\r\n{upgrade}\r\n");
    mesh.app.clear();
    let answer = mesh.raw("payments/web", text.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    mesh.app.assert_untouched();
}

#[tokio::test]
async fn a_refused_body_does_not_poison_the_connection() {
    let mesh = Mesh::start(ONLY_PUBLIC).await;
    // A body that reads like a request, behind one that is refused before its body is read.
    let text = format!(
        "POST /admin HTTP/1.1\r\nhost: ledger.payments:8080\r\ncontent-length: {}\r\n\r\n{HIDDEN}\
         GET /public HTTP/1.1\r\nhost: ledger.payments:8080\r\nconnection: close\r\n\r\n",
        HIDDEN.len()
    );
    let answer = mesh.raw("payments/web", text.as_bytes()).await;
    let statuses = statuses(&answer);
    assert!(statuses == ["403"] || statuses == ["403", "200"], "{answer}");
    assert!(mesh.app.received().iter().all(|one| one.target == "/public"));
}

#[tokio::test]
async fn an_expected_continue_is_refused_without_asking_for_the_body() {
    let mesh = Mesh::start(ONLY_PUBLIC).await;
    let head = "host: ledger.payments:8080\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";
    let answer = mesh.raw("payments/web", format!("POST /admin HTTP/1.1\r\n{head}").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    mesh.app.assert_untouched();
    let mut stream = mesh.connect("payments/web", HTTP1).await;
    let first = client::raw(&mut stream, format!("POST /echo HTTP/1.1\r\n{head}").as_bytes()).await;
    assert!(first.starts_with(b"HTTP/1.1 100"), "{}", first.escape_ascii());
    let second = client::raw(&mut stream, b"hello").await;
    // The service answers the head at once, so its own head may come before the body is sent.
    let text = String::from_utf8_lossy(&[first, second].concat()).into_owned();
    assert!(text.contains("HTTP/1.1 200") && text.contains("hello"), "{text}");
}

#[tokio::test]
async fn the_http_proxy_refuses_ambiguous_framing_of_the_application_too() {
    let mesh = Mesh::start(ALLOW_MESH).await;
    let caller = mesh.caller().await;
    assert_eq!(client::get(caller.http_proxy(), &url("/public")).await.status, StatusCode::OK);
    mesh.app.clear();
    for (what, rest) in AMBIGUOUS {
        let rest = rest.replace(
            "{}",
            "GET http://ledger.payments:8080/admin HTTP/1.1\r\nhost: ledger.payments:8080\r\n\r\n",
        );
        let text = format!("POST {} HTTP/1.1\r\nhost: ledger.payments:8080\r\n{rest}", url("/public"));
        let mut socket = tokio::net::TcpStream::connect(caller.http_proxy()).await.unwrap();
        let answer = client::raw(&mut socket, text.as_bytes()).await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert_eq!(statuses(&answer), ["400"], "{what}: {answer}");
        assert!(mesh.app.received().iter().all(|one| !one.complete), "{what}");
    }
}

#[tokio::test]
async fn heads_over_the_limits_are_refused_and_the_next_connection_is_served() {
    let mesh = Mesh::open().await;
    let long = "a".repeat(256 * 1024);
    let many: String = (0..150).map(|n| format!("x-{n}: 1\r\n")).collect();
    for (what, head) in [
        ("long header", format!("GET / HTTP/1.1\r\nhost: ledger.payments:8080\r\nx: {long}\r\n\r\n")),
        ("long path", format!("GET /{long} HTTP/1.1\r\nhost: ledger.payments:8080\r\n\r\n")),
        ("many headers", format!("GET / HTTP/1.1\r\nhost: ledger.payments:8080\r\n{many}\r\n")),
    ] {
        let answer = mesh.raw("payments/web", head.as_bytes()).await;
        assert!(!answer.contains(" 200 "), "{what}: {answer}");
        mesh.app.assert_untouched();
    }
    until("the sidecar to serve", || async {
        let answer = mesh.call("payments/web", get("/")).await;
        if answer.status == StatusCode::OK { Ok(()) } else { Err(answer.text()) }
    })
    .await;
}
