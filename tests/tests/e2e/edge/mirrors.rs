//! Copies of requests: the mirror gets what the upstream gets, and the caller never notices.

use std::time::Duration;

use http::StatusCode;
use palisade_tests::{Scripted, Upstream, client, until};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::door::{Door, EVERYBODY, GATEWAY, HOST, request, request_h2, with};
use super::routes::{external, routes};
use crate::kit::HTTP1;

/// Everything to the ledger, with this line below the route, and a ServiceEntry for the mirror.
fn mirrored(line: &str, at: std::net::SocketAddr) -> String {
    let http = format!("  - name: all\n    route: [{{destination: {{host: ledger}}}}]\n    {line}\n");
    format!("{}---{}", routes(&http), external("copy.example", at))
}

const EVERY: &str = "mirror: {host: copy.example}";

async fn received(upstream: &Upstream, count: usize) {
    until("copies", async || {
        let seen = upstream.received();
        let whole = seen.iter().filter(|request| request.complete).count();
        if whole == count { Ok(()) } else { Err(seen) }
    })
    .await;
}

#[tokio::test]
async fn a_mirror_gets_the_same_request_under_a_shadow_host_and_a_record_of_its_own() {
    let copies = Upstream::start("copy").await;
    let door = Door::open(&mirrored(EVERY, copies.address())).await;
    let sent = with(request("POST", "/entries?q=1", "a transfer"), &[("x-idempotency-key", "k1")]);
    let answer = door.send(sent).await;
    assert_eq!(answer.text(), "hello from ledger");
    received(&copies, 1).await;
    let (original, copy) = (door.app().last(), copies.last());
    assert_eq!(copy.method, original.method);
    assert_eq!(copy.target, "/entries?q=1");
    assert_eq!((copy.body.as_slice(), copy.complete), (b"a transfer".as_slice(), true));
    assert_eq!(copy.headers["host"], "api.bank.example-shadow");
    assert_eq!(copy.headers["x-idempotency-key"], "k1");
    assert_eq!(copy.headers["x-request-id"], original.headers["x-request-id"]);
    assert_eq!(door.app().received().len(), 1);

    let records = door.edge.records_with(2, &[("path", json!("/entries"))]).await;
    let (copies, originals): (Vec<_>, Vec<_>) =
        records.into_iter().partition(|record| record.get("mirror_of").is_some());
    assert_eq!(copies.len(), 1);
    assert_eq!(copies[0]["mirror_of"], originals[0]["decision_id"]);
    assert_eq!(copies[0]["response_code"], 200);
    assert!(copies[0]["upstream_cluster"].as_str().unwrap().contains("copy.example"), "{}", copies[0]);
}

#[tokio::test]
async fn the_mirror_of_a_request_over_http2_without_a_length_gets_its_whole_body() {
    let copies = Upstream::start("copy").await;
    let door = Door::open(&mirrored(EVERY, copies.address())).await;
    let body = "x".repeat(100_000);
    let answer = door.send_h2(request_h2("POST", HOST, "/echo", &body)).await;
    assert_eq!(answer.text().len(), body.len());
    received(&copies, 1).await;
    assert_eq!(copies.last().body.len(), body.len());
}

#[tokio::test]
async fn a_share_of_none_copies_nothing_and_a_half_about_half() {
    let (none, half) = (Upstream::start("none").await, Upstream::start("half").await);
    let line = "mirrors: [{destination: {host: none.example}, percentage: {value: 0}}, \
                {destination: {host: half.example}, percentage: {value: 50}}]";
    let documents = format!(
        "{}---{}",
        mirrored(line, half.address()).replace("copy.example", "half.example"),
        external("none.example", none.address())
    );
    let door = Door::open(&documents).await;
    for _ in 0..100 {
        assert_eq!(door.get("/").await.status, StatusCode::OK);
    }
    door.edge.records_with(100, &[("mirror_of", serde_json::Value::Null)]).await;
    // 50 are due; the odds against leaving these bounds are beyond one in ten million.
    let copied = half.received().len();
    assert!((22..=78).contains(&copied), "{copied}");
    none.assert_untouched();
}

#[tokio::test]
async fn a_mirror_that_fails_stalls_or_is_not_there_costs_the_caller_nothing() {
    let stalled = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stalled_at = stalled.local_addr().unwrap();
    let door = Door::open(&mirrored(EVERY, stalled_at)).await;
    // The kernel takes the connection and what its buffers hold; nobody reads.
    let body = "x".repeat(20_000_000);
    let begun = Instant::now();
    let answer = door.send(request("POST", "/echo", &body)).await;
    assert_eq!(answer.text().len(), body.len());
    assert!(begun.elapsed() < Duration::from_secs(20));
    let records = door.edge.records_with(1, &[("reason", json!("copy_broke_off"))]).await;
    assert_eq!(records[0]["response_code"], 0);
    drop(stalled);
    assert_eq!(door.get("/").await.status, StatusCode::OK);
    assert_eq!(door.get("/status/500").await.status, StatusCode::INTERNAL_SERVER_ERROR);
    // Of three originals, none is a failure of the proxy's.
    let records = door.edge.records_with(3, &[("response_code_details", json!("via_upstream"))]).await;
    assert!(records.iter().all(|record| record.get("mirror_of").is_none()));
}

#[tokio::test]
async fn what_a_caller_breaks_off_is_no_whole_request_to_the_mirror_either() {
    let copies = Upstream::start("copy").await;
    let door = Door::open(&mirrored(EVERY, copies.address())).await;
    let mut stream = door.connect(HTTP1).await;
    let head = format!("POST /drop HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 1000\r\n\r\npart");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    until(
        "the copy's beginning",
        async || {
            if copies.received().is_empty() { Err("nothing yet") } else { Ok(()) }
        },
    )
    .await;
    drop(stream);
    door.edge.records_with(1, &[("reason", json!("copy_broke_off"))]).await;
    assert!(copies.received().iter().all(|request| !request.complete));
    assert!(door.app().received().iter().all(|request| !request.complete));
}

#[tokio::test]
async fn a_mirror_on_a_port_of_http_gets_no_copy_of_a_grpc_call_and_hears_nothing() {
    let copies = Scripted::start().await;
    let documents = format!("{GATEWAY}---{EVERYBODY}---{}", mirrored(EVERY, copies.address()));
    let door = Door::speaking("grpc", &documents, |edge| edge).await;
    let call = request_h2("POST", HOST, "/ledger.Ledger/Pay", "\r\n\r\nGET /admin HTTP/1.1\r\n\r\n");
    let answer = door.send_h2(with(call, &[("content-type", "application/grpc")])).await;
    assert_eq!(answer.text(), "hello from ledger");
    let refused = door.edge.records_with(1, &[("reason", json!("grpc_needs_http2"))]).await;
    assert!(refused[0]["mirror_of"].is_string(), "{refused:?}");
    assert!(copies.heard().iter().all(String::is_empty), "{:?}", copies.heard());
}

#[tokio::test]
async fn a_refused_request_and_an_upgrade_have_no_copy() {
    let copies = Upstream::start("copy").await;
    let documents = format!(
        "{}---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: no-admin, namespace: payments}}
spec: {{selector: {{matchLabels: {{app: edge}}}}, action: DENY, rules: [{{to: [{{operation: {{paths: [/admin]}}}}]}}]}}
",
        mirrored(EVERY, copies.address())
    );
    let door = Door::open(&documents).await;
    assert_eq!(door.get("/admin").await.status, StatusCode::FORBIDDEN);
    let mut stream = door.connect(HTTP1).await;
    let upgrade =
        format!("GET /upgrade HTTP/1.1\r\nhost: {HOST}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
    stream.write_all(upgrade.as_bytes()).await.unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 101");
    drop(stream);
    assert_eq!(door.get("/last").await.status, StatusCode::OK);
    received(&copies, 1).await;
    assert_eq!(copies.received().len(), 1);
    assert_eq!(copies.last().target, "/last");
}

#[tokio::test]
async fn beyond_so_many_copies_requests_go_on_without_one_and_that_is_counted() {
    let stalled = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let door = Door::open(&mirrored(EVERY, stalled.local_addr().unwrap())).await;
    let (mut sender, connection) = hyper::client::conn::http2::handshake(
        hyper_util::rt::TokioExecutor::new(),
        hyper_util::rt::TokioIo::new(door.connect(crate::kit::HTTP2).await),
    )
    .await
    .unwrap();
    tokio::spawn(connection);
    for _ in 0..110 {
        let asked = request_h2("GET", HOST, "/", "");
        let answer = sender.send_request(asked).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        client::read(answer).await.unwrap();
    }
    // One connection is served by one worker, which has 100 copies under way.
    assert!(door.edge.metric("palisade_mirrors_dropped_total", &[]).await >= 10.0);
}
