//! An application that answers what no server should: its callers get a 502, and nobody after them anything of it.

use palisade_tests::{Scripted, Upstream, World, client};
use serde_json::json;

use crate::PALISADE;
use crate::edge::door::{Door, EVERYBODY, GATEWAY, HOST};
use crate::edge::routes::{external, external_as, routes};
use crate::kit::{ALLOW_MESH, HTTP1, STRICT};

const GOOD: &str = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ngood";

/// Heads that break HTTP.
fn heads() -> Vec<(&'static str, String)> {
    let many: String = (0..150).map(|n| format!("x-{n}: 1\r\n")).collect();
    let rows = [
        ("two lengths", "200 OK\r\ncontent-length: 4\r\ncontent-length: 5\r\n\r\nevil"),
        ("two equal lengths", "200 OK\r\ncontent-length: 4\r\ncontent-length: 4\r\n\r\nevil"),
        ("a list of lengths", "200 OK\r\ncontent-length: 4, 4\r\n\r\nevil"),
        ("a negative length", "200 OK\r\ncontent-length: -4\r\n\r\nevil"),
        (
            "length and chunks",
            "200 OK\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n4\r\nevil\r\n0\r\n\r\n",
        ),
        (
            "chunks and length",
            "200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n4\r\nevil\r\n0\r\n\r\n",
        ),
        ("an unknown coding", "200 OK\r\ntransfer-encoding: xchunked\r\n\r\nevil"),
        ("two codings", "200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n4\r\nevil\r\n0\r\n\r\n"),
        (
            "chunked twice",
            "200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        ("a folded header", "200 OK\r\nx-a: 1\r\n set-cookie: evil=1\r\ncontent-length: 4\r\n\r\nevil"),
        ("a bare LF", "200 OK\r\nx-a: 1\nset-cookie: evil=1\r\ncontent-length: 4\r\n\r\nevil"),
        ("a bare CR", "200 OK\r\nx-a: 1\rset-cookie: evil=1\r\ncontent-length: 4\r\n\r\nevil"),
        ("a NUL", "200 OK\r\nx-a: 1\0set-cookie: evil=1\r\ncontent-length: 4\r\n\r\nevil"),
        ("a blank before the colon", "200 OK\r\ncontent-length : 4\r\n\r\nevil"),
        ("no colon", "200 OK\r\ncontent-length 4\r\n\r\nevil"),
        ("two digits", "20 OK\r\ncontent-length: 4\r\n\r\nevil"),
        ("four digits", "2000 OK\r\ncontent-length: 4\r\n\r\nevil"),
        (
            "a switch of protocols that nobody asked for",
            "101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\nevil",
        ),
    ];
    let mut all: Vec<_> = rows.iter().map(|(what, rest)| (*what, format!("HTTP/1.1 {rest}"))).collect();
    all.extend([
        (
            "HTTP/1.0 with chunks",
            "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nevil\r\n0\r\n\r\n".into(),
        ),
        ("HTTP/0.9", "evil".to_owned() + &" ".repeat(64)),
        ("HTTP/2.0", "HTTP/2.0 200 OK\r\ncontent-length: 4\r\n\r\nevil".into()),
        ("an empty line first", format!("\r\n{GOOD}")),
        ("too many headers", format!("HTTP/1.1 200 OK\r\n{many}content-length: 4\r\n\r\nevil")),
        ("a header of 256 KiB", format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\nevil", "a".repeat(256 * 1024))),
        (
            "a flood of interim responses",
            "HTTP/1.1 103 Early Hints\r\nlink: evil\r\n\r\n".repeat(1000) + GOOD,
        ),
    ]);
    all
}

/// Bodies that break their framing: the head was passed on already, so the caller's connection breaks.
const BODIES: &[(&str, &str)] = &[
    ("a chunk size that is none", "zz\r\nevil\r\n0\r\n\r\n"),
    ("a chunk size with a sign", "+4\r\nevil\r\n0\r\n\r\n"),
    ("a chunk size beyond 64 bits", "fffffffffffffffff\r\nevil\r\n0\r\n\r\n"),
    ("a bare LF after a chunk size", "4\nevil\r\n0\r\n\r\n"),
    ("a chunk longer than its size", "2\r\nevil\r\n0\r\n\r\n"),
    ("a folded trailer", "4\r\nevil\r\n0\r\nx-a: 1\r\n evil\r\n\r\n"),
];

/// Right answers with more behind them, which must never answer anybody else.
const SURPLUS: &[(&str, &str)] = &[
    ("GET", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil"),
    (
        "GET",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil",
    ),
    ("GET", "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil"),
    ("HEAD", "HTTP/1.1 200 OK\r\ncontent-length: 45\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil"),
];

/// Runs all attacks; `send`: one raw request on a connection of its own.
async fn attack(app: &Scripted, send: impl AsyncFn(String) -> String) {
    let request = |method: &str| format!("{method} /x HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n");
    let sizes = || app.heard().iter().map(String::len).collect::<Vec<_>>();
    // One hostile answer, then good ones for the callers after it: not on the connection that it came on.
    let round = async |what: &str, method: &str, hostile: String| {
        let before = sizes();
        app.answers(hostile);
        let answer = send(request(method)).await;
        let hit: Vec<usize> =
            (0..sizes().len()).filter(|at| sizes()[*at] > before.get(*at).copied().unwrap_or(0)).collect();
        assert_eq!(hit.len(), 1, "{what}: tried again on another connection");
        let after = sizes();
        app.answers(GOOD);
        // Each worker has connections of its own.
        for _ in 0..3 {
            let good = send(request("GET")).await;
            assert!(good.starts_with("HTTP/1.1 200") && good.ends_with("good"), "after {what}: {good}");
        }
        assert_eq!(sizes()[hit[0]], after[hit[0]], "{what}: the connection was used again");
        answer
    };
    for (what, hostile) in heads() {
        let answer = round(what, "GET", hostile).await;
        assert!(answer.starts_with("HTTP/1.1 502") && !answer.contains("evil"), "{what}: {answer}");
    }
    for (what, body) in BODIES {
        let hostile = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{body}");
        let answer = round(what, "GET", hostile).await;
        assert!(answer.starts_with("HTTP/1.1 502") || !answer.ends_with("0\r\n\r\n"), "{what}: {answer}");
    }
    for (method, hostile) in SURPLUS {
        let answer = round(hostile, method, (*hostile).to_owned()).await;
        assert!(!answer.contains("evil"), "{method}: {answer}");
    }
}

#[tokio::test]
async fn an_upstream_of_the_edge_that_breaks_http_is_a_502_and_poisons_nobody() {
    let app = Scripted::start().await;
    let documents = routes("  - {route: [{destination: {host: other.example, port: {number: 80}}}]}\n");
    let entry = external("other.example", app.address());
    let documents = format!("{GATEWAY}---{EVERYBODY}---{documents}---{entry}");
    let door = Door::with(&documents, |edge| edge).await;
    attack(&app, async |text| door.raw(text.as_bytes()).await).await;
    let records = door.edge.records_with(20, &[("reason", json!("upstream_malformed"))]).await;
    assert!(records.iter().all(|record| record["response_flags"] == "UPE"));
}

#[tokio::test]
async fn over_http2_two_lengths_of_an_upstream_or_one_with_a_zero_in_front_are_a_502() {
    let app = Upstream::start("app").await;
    let documents = routes("  - {route: [{destination: {host: other.example, port: {number: 80}}}]}\n");
    let entry = external_as("other.example", app.address(), "HTTP2");
    let documents = format!("{GATEWAY}---{EVERYBODY}---{documents}---{entry}");
    let door = Door::with(&documents, |edge| edge).await;
    let ask = async |path: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n");
        door.raw(request.as_bytes()).await
    };
    for path in ["/lengths/0", "/lengths/1"] {
        let answer = ask(path).await;
        assert!(answer.starts_with("HTTP/1.1 502 "), "{path}: {answer}");
        assert!(!answer.contains("good"), "{path}: {answer}");
    }
    assert!(ask("/").await.contains("hello from app"));
    assert_eq!(app.received().len(), 3);
    let records = door.edge.records_with(2, &[("reason", json!("upstream_malformed"))]).await;
    assert!(records.iter().all(|record| record["response_flags"] == "UPE"));
}

#[tokio::test]
async fn an_application_that_breaks_http_is_a_502_of_its_sidecar_and_poisons_nobody() {
    let app = Scripted::start().await;
    let world = World::of_files(PALISADE);
    world.policy("strict.yaml", STRICT);
    world.policy("policies.yaml", ALLOW_MESH);
    let builder = world.file_sidecar("payments/ledger").serve(8080, app.address());
    let sidecar = builder.start().await;
    attack(&app, async |text| {
        let expected = palisade_tests::world::expecting("payments/ledger");
        let svid = world.pki.svid("payments/web");
        let connecting =
            client::connect_tls(sidecar.inbound(8080), Some(&svid), &world.pki.bundle, expected, HTTP1);
        let mut stream = connecting.await.unwrap();
        String::from_utf8_lossy(&client::raw(&mut stream, text.as_bytes()).await).into_owned()
    })
    .await;
}
