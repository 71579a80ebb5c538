//! Requests that last for too long, though somebody speaks.

use std::time::Duration;

use bytes::Bytes;
use palisade_tests::SidecarBuilder;
use palisade_tests::client::{self, closed};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, sleep};

use super::door::{Door, EVERYBODY, GATEWAY, HOST, TO_LEDGER};
use super::silence::call;
use crate::kit::{HTTP1, HTTP2};

const DEADLINE_EXCEEDED: &str = "4";
/// The limit, and how late it may be noticed on a busy machine.
const ENDS_WITHIN: Duration = Duration::from_secs(8);

async fn door(protocol: &str) -> Door {
    let options = |edge: SidecarBuilder| edge.arg("--request-duration-max", "2s");
    Door::speaking(protocol, &format!("{GATEWAY}---{EVERYBODY}---{TO_LEDGER}"), options).await
}

async fn until_recorded(door: &Door) {
    door.edge.records_with(1, &[("response_code_details", json!("max_request_duration"))]).await;
}

#[tokio::test]
async fn a_stream_of_grpc_that_never_ends_is_ended_and_told_so() {
    let door = door("grpc").await;
    let (speak, request) = call("/echo");
    let speaking = async {
        while speak.send(Bytes::from_static(b"word ")).await.is_ok() {
            sleep(Duration::from_millis(200)).await;
        }
    };
    let start = Instant::now();
    let stream = door.connect(HTTP2).await;
    let answer = tokio::select! {
        answer = client::send_h2(stream, request) => answer.unwrap(),
        () = speaking => panic!("the body was let go before the answer ended"),
    };
    assert!(
        start.elapsed() >= Duration::from_secs(2) && start.elapsed() < ENDS_WITHIN,
        "{:?}",
        start.elapsed()
    );
    assert!(answer.text().starts_with("word word "));
    assert_eq!(answer.trailers.unwrap()["grpc-status"], DEADLINE_EXCEEDED);
    until_recorded(&door).await;
    assert!(door.app().received().iter().all(|request| !request.complete));
}

#[tokio::test]
async fn a_tunnel_that_never_ends_is_closed() {
    let door = door("http").await;
    let mut tunnel = door.connect(HTTP1).await;
    let upgrade =
        format!("GET /upgrade HTTP/1.1\r\nhost: {HOST}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
    let start = Instant::now();
    tunnel.write_all(upgrade.as_bytes()).await.unwrap();
    let mut buffer = [0; 1024];
    let count = tunnel.read(&mut buffer).await.unwrap();
    assert!(buffer[..count].starts_with(b"HTTP/1.1 101"));
    while start.elapsed() < Duration::from_secs(1) {
        tunnel.write_all(b"word").await.unwrap();
        tunnel.flush().await.unwrap();
        tunnel.read_exact(&mut buffer[..4]).await.unwrap();
        sleep(Duration::from_millis(200)).await;
    }
    closed(&mut tunnel).await;
    assert!(
        start.elapsed() >= Duration::from_secs(2) && start.elapsed() < ENDS_WITHIN,
        "{:?}",
        start.elapsed()
    );
    until_recorded(&door).await;
}

#[tokio::test]
async fn a_request_without_an_answer_is_504() {
    let door = door("http").await;
    let mut stream = door.connect(HTTP1).await;
    // The application answers with the end of the request's body, which does not come.
    let head = format!("POST /entries HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 10\r\n\r\nbegun");
    let start = Instant::now();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _broken = stream.read_to_end(&mut answer).await;
    assert!(
        start.elapsed() >= Duration::from_secs(2) && start.elapsed() < ENDS_WITHIN,
        "{:?}",
        start.elapsed()
    );
    assert!(answer.starts_with(b"HTTP/1.1 504 "), "{}", String::from_utf8_lossy(&answer));
    let fields = [("reason", json!("max_request_duration")), ("response_flags", json!("DT"))];
    door.edge.records_with(1, &fields).await;
}
