//! How long a client may keep the edge waiting.

use std::time::Duration;

use http::StatusCode;
use palisade_tests::client::{self, closed, connect_from};
use palisade_tests::raw_h2::{END_STREAM, GOAWAY, HEADERS, RawH2, block, frame, headers};
use palisade_tests::{SidecarBuilder, until};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;

use super::door::{Door, EVERYBODY, GATEWAY, HOST, TO_LEDGER, request};
use super::floods::GET;
use crate::kit::{HTTP1, HTTP2};

async fn door(options: impl FnOnce(SidecarBuilder) -> SidecarBuilder) -> Door {
    Door::with(&format!("{GATEWAY}---{EVERYBODY}---{TO_LEDGER}"), options).await
}

/// So many connections were ended for this reason. Counted when the connection's task ends, after the client saw its end.
async fn assert_ended(door: &Door, reason: &str, count: u64) {
    assert_counted(door, "palisade_connections_ended_total", reason, count).await;
}

pub(super) async fn assert_counted(door: &Door, metric: &str, reason: &str, count: u64) {
    let having = [&*format!("reason=\"{reason}\"")];
    until("a connection to be counted", || async {
        let counted = door.edge.metric(metric, &having).await as u64;
        if counted == count { Ok(()) } else { Err(format!("{counted} of {reason}")) }
    })
    .await;
}

#[tokio::test]
async fn a_handshake_that_is_not_finished_in_time_ends_the_connection() {
    let door = door(|edge| edge.arg("--handshake-timeout", "300ms")).await;
    let mut silent = connect_from("127.0.0.2", door.edge.edge(443)).await.unwrap();
    let mut half = connect_from("127.0.0.2", door.edge.edge(443)).await.unwrap();
    half.write_all(b"\x16\x03\x01\x02\x00\x01").await.unwrap();
    closed(&mut silent).await;
    closed(&mut half).await;
    assert_counted(&door, "palisade_handshakes_total", "timeout", 2).await;
}

#[tokio::test]
async fn a_head_that_comes_a_byte_at_a_time_is_408_and_reaches_nobody() {
    let door = door(|edge| edge.arg("--header-timeout", "500ms")).await;
    let mut stream = door.connect(HTTP1).await;
    let start = Instant::now();
    let (mut reader, mut writer) = tokio::io::split(&mut stream);
    let mut answer = Vec::new();
    let dripping = async {
        for byte in format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nx-slow: {}", "x".repeat(100_000)).bytes() {
            if writer.write_all(&[byte]).await.is_err() || writer.flush().await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        _end = reader.read_to_end(&mut answer) => {}
        () = dripping => {}
    }
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer:?}");
    assert!(start.elapsed() >= Duration::from_millis(500));
    door.app().assert_untouched();
    door.edge.records_with(1, &[("reason", json!("head_timeout"))]).await;
    assert_ended(&door, "head_timeout", 1).await;
}

#[tokio::test]
async fn a_header_block_of_http2_that_never_ends_ends_the_connection() {
    let door = door(|edge| edge.arg("--header-timeout", "500ms")).await;
    let mut connection = RawH2::open(door.connect(HTTP2).await).await;
    connection.send(&frame(HEADERS, END_STREAM, 1, &block(GET))).await;
    while connection.next().await.is_some() {}
    assert_ended(&door, "head_timeout", 1).await;
    door.app().assert_untouched();
}

#[tokio::test]
async fn the_header_deadline_is_not_that_of_idle_connections_and_neither_is_that_of_slow_upstreams() {
    let door = door(|edge| edge.arg("--header-timeout", "200ms").arg("--idle-timeout", "1s")).await;
    let mut stream = door.connect(HTTP1).await;
    let mut ask = async |target: &str| {
        let text = format!("GET {target} HTTP/1.1\r\nhost: {HOST}\r\n\r\n");
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut buffer = vec![0; 4096];
        let count = stream.read(&mut buffer).await.unwrap();
        String::from_utf8_lossy(&buffer[..count]).into_owned()
    };
    assert!(ask("/slow/1500").await.starts_with("HTTP/1.1 200"));
    // Between two requests neither clock has run out.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(ask("/").await.starts_with("HTTP/1.1 200"));
    let start = Instant::now();
    closed(&mut stream).await;
    assert!(start.elapsed() >= Duration::from_millis(800), "{:?}", start.elapsed());
    assert_ended(&door, "idle", 1).await;
}

#[tokio::test]
async fn an_idle_connection_of_http2_is_told_to_go_away() {
    let door = door(|edge| edge.arg("--idle-timeout", "500ms")).await;
    let mut connection = RawH2::open(door.connect(HTTP2).await).await;
    connection.send(&headers(1, true, GET)).await;
    let mut seen = Vec::new();
    while let Some((kind, _, _, payload)) = connection.next().await {
        seen.push((kind, payload));
    }
    let (_, payload) = seen.iter().find(|(kind, _)| *kind == GOAWAY).expect("a GOAWAY");
    assert_eq!(payload[4..8], [0; 4], "NO_ERROR");
    assert_ended(&door, "idle", 1).await;
}

#[tokio::test]
async fn a_client_that_does_not_read_its_response_frees_the_upstream() {
    let door = door(|edge| edge.arg("--slow-reader-timeout", "1s").arg("--idle-timeout", "30s")).await;
    // HTTP/1.1: TCP takes no more. HTTP/2: the stream's window is used up while TCP would take more.
    let mut http1 = door.connect(HTTP1).await;
    let head = format!("GET /drip/100000000 HTTP/1.1\r\nhost: {HOST}\r\n\r\n").replace("drip", "bytes");
    http1.write_all(head.as_bytes()).await.unwrap();
    let mut http2 = RawH2::open(door.connect(HTTP2).await).await;
    let mut fields = GET.to_vec();
    fields[2] = (b":path", b"/bytes/10000000");
    http2.send(&headers(1, true, &fields)).await;
    let reading = async { while http2.next().await.is_some() {} };
    tokio::time::timeout(Duration::from_secs(15), reading).await.expect("the connection ends");
    assert_ended(&door, "slow_reader", 2).await;
    until("the upstream to be free", || async {
        let open = door.edge.metric("istio_requests_total", &[]).await;
        if open >= 2.0 { Ok(()) } else { Err(open) }
    })
    .await;
    drop(http1);
    assert_eq!(
        client::send_on(door.connect(HTTP1).await, request("GET", "/", "")).await.unwrap().status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn answers_that_nobody_reads_hold_up_no_other_caller_of_their_service() {
    let door = door(|edge| edge.workers(1)).await;
    let mut deaf = Vec::new();
    for _ in 0..12 {
        let mut stream = door.connect(HTTP1).await;
        let head = format!("GET /bytes/20000000 HTTP/1.1\r\nhost: {HOST}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        deaf.push(stream);
    }
    until("all of them at the service", || async {
        let count = door.app().received().len();
        if count == 12 { Ok(()) } else { Err(count) }
    })
    .await;
    // Until nothing moves any more: TCP towards the clients is full, and so are their streams' windows.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let start = Instant::now();
    for _ in 0..20 {
        let answer = client::send_on(door.connect(HTTP1).await, request("GET", "/bytes/30000", "")).await;
        assert_eq!(answer.unwrap().body.len(), 30_000);
    }
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}
