//! Streams in which nobody speaks.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::combinators::BoxBody;
use palisade_tests::client::{self, closed};
use palisade_tests::{SidecarBuilder, until};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc::Sender;
use tokio::time::{Instant, sleep};

use super::door::{Door, EVERYBODY, GATEWAY, HOST, TO_LEDGER};
use crate::kit::{HTTP1, HTTP2};

const UNAVAILABLE: &str = "14";

/// With a ledger that speaks this protocol.
async fn door(protocol: &str, limit: &str) -> Door {
    let documents = format!("{GATEWAY}---{EVERYBODY}---{TO_LEDGER}");
    let options = |edge: SidecarBuilder| edge.arg("--stream-idle-timeout", limit);
    Door::speaking(protocol, &documents, options).await
}

/// A call whose caller has not ended its request.
pub(super) fn call(path: &str) -> (Sender<Bytes>, Request<BoxBody<Bytes, std::convert::Infallible>>) {
    let (speak, body) = client::paced();
    let request = Request::post(format!("https://{HOST}{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(body)
        .unwrap();
    (speak, request)
}

/// The service has learned that nobody is there any more.
async fn until_broken_off(door: &Door, edge_record_details: &str) {
    let fields = [
        ("reason", json!("stream_idle")),
        ("response_flags", json!("SI")),
        ("decision", json!("failed")),
        ("response_code_details", json!(edge_record_details)),
    ];
    door.edge.records_with(1, &fields).await;
    until("the sidecar to be free", || async {
        let records = door.mesh.sidecar.records();
        if records.is_empty() { Err(records) } else { Ok(()) }
    })
    .await;
    assert!(door.app().received().iter().all(|request| !request.complete));
    let counted = door.edge.metric("palisade_requests_ended_total", &["reason=\"stream_idle\""]).await;
    assert_eq!(counted, 1.0);
}

#[tokio::test]
async fn a_call_of_grpc_that_neither_side_goes_on_with_is_unavailable() {
    let door = door("grpc", "500ms").await;
    let (speak, request) = call("/slow/1");
    let start = Instant::now();
    let answer = client::send_h2(door.connect(HTTP2).await, request).await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(500));
    assert_eq!((answer.status, answer.header("grpc-status")), (StatusCode::OK, Some(UNAVAILABLE)));
    until_broken_off(&door, "stream_idle").await;
    drop(speak);
}

#[tokio::test]
async fn a_stream_of_grpc_lives_while_something_is_said_and_ends_in_trailers_when_nothing_is() {
    let door = door("grpc", "1500ms").await;
    let (speak, request) = call("/echo");
    let speaking = async {
        for _ in 0..5 {
            sleep(Duration::from_millis(500)).await;
            speak.send(Bytes::from_static(b"word ")).await.unwrap();
        }
    };
    let start = Instant::now();
    let stream = door.connect(HTTP2).await;
    let (answer, ()) = tokio::join!(client::send_h2(stream, request), speaking);
    assert!(start.elapsed() >= Duration::from_secs(4), "1.5 s after the last word");
    let answer = answer.unwrap();
    assert_eq!(answer.text(), "word word word word word ");
    assert_eq!(answer.trailers.unwrap()["grpc-status"], UNAVAILABLE);
    until_broken_off(&door, "stream_idle_after_response_started").await;
}

#[tokio::test]
async fn an_answer_of_any_other_kind_breaks_off_and_never_looks_whole() {
    let door = door("http", "500ms").await;
    let mut stream = door.connect(HTTP1).await;
    let head = format!(
        "POST /echo HTTP/1.1\r\nhost: {HOST}\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n5\r\nbegun\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _broken = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("begun"), "{answer}");
    assert!(!answer.contains("\r\n0\r\n"), "{answer}");
    until_broken_off(&door, "stream_idle_after_response_started").await;
}

#[tokio::test]
async fn a_tunnel_lives_while_something_is_said_and_ends_when_nothing_is() {
    let door = door("http", "1500ms").await;
    let mut tunnel = door.connect(HTTP1).await;
    let upgrade =
        format!("GET /upgrade HTTP/1.1\r\nhost: {HOST}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
    tunnel.write_all(upgrade.as_bytes()).await.unwrap();
    let mut buffer = [0; 1024];
    let count = tunnel.read(&mut buffer).await.unwrap();
    assert!(buffer[..count].starts_with(b"HTTP/1.1 101"));
    let start = Instant::now();
    for _ in 0..5 {
        sleep(Duration::from_millis(500)).await;
        tunnel.write_all(b"word").await.unwrap();
        tunnel.flush().await.unwrap();
        tunnel.read_exact(&mut buffer[..4]).await.unwrap();
    }
    closed(&mut tunnel).await;
    assert!(start.elapsed() >= Duration::from_secs(4), "1.5 s after the last word");
    until_broken_off(&door, "stream_idle_after_response_started").await;
}
