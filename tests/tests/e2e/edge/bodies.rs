//! Request bodies that their senders do not get on with.

use std::time::Duration;

use http::StatusCode;
use palisade_tests::client::closed;
use palisade_tests::raw_h2::{DATA, END_STREAM, HEADERS, PING, RST_STREAM, RawH2, data, frame, headers};
use palisade_tests::until;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, sleep, timeout};

use super::door::{Door, EVERYBODY, GATEWAY, HOST, TO_LEDGER, request};
use super::floods::{Field, GET};
use crate::kit::{HTTP1, HTTP2};

async fn door(limit: &str) -> Door {
    door_to("http", limit).await
}

async fn door_to(protocol: &str, limit: &str) -> Door {
    let documents = format!("{GATEWAY}---{EVERYBODY}---{TO_LEDGER}");
    Door::speaking(protocol, &documents, |edge| edge.arg("--body-timeout", limit)).await
}

/// Fields of a POST over HTTP/2.
fn post(path: &'static [u8], more: &[Field<'static>]) -> Vec<Field<'static>> {
    let mut fields = GET.to_vec();
    fields[0] = (b":method", b"POST");
    fields[2] = (b":path", path);
    fields.extend_from_slice(more);
    fields
}

async fn assert_nothing_whole(door: &Door) {
    door.edge.records_with(1, &[("reason", json!("body_timeout")), ("response_code", json!(408))]).await;
    assert!(door.app().received().iter().all(|request| !request.complete));
}

#[tokio::test]
async fn a_body_that_stops_is_408_and_reaches_no_service_whole() {
    for framing in ["content-length: 1000\r\n\r\nbegun", "transfer-encoding: chunked\r\n\r\n5\r\nbegun\r\n"] {
        let door = door("500ms").await;
        let mut stream = door.connect(HTTP1).await;
        let start = Instant::now();
        let head = format!("POST /upload HTTP/1.1\r\nhost: {HOST}\r\n{framing}");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("connection: close"), "{answer}");
        assert!(start.elapsed() >= Duration::from_millis(500));
        assert_nothing_whole(&door).await;
    }
}

#[tokio::test]
async fn a_body_that_drips_is_408_too_and_one_that_gets_on_is_waited_for() {
    let door = door("600ms").await;
    let mut stream = door.connect(HTTP1).await;
    let head = format!("POST /upload HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 100000\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let (mut reader, mut writer) = tokio::io::split(&mut stream);
    let dripping = async {
        while writer.write_all(b"x").await.is_ok() && writer.flush().await.is_ok() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    let mut answer = [0; 12];
    tokio::select! {
        () = dripping => panic!("closed without an answer"),
        read = reader.read_exact(&mut answer) => { read.unwrap(); }
    }
    assert_eq!(&answer, b"HTTP/1.1 408");
    assert_nothing_whole(&door).await;
    door.app().clear();

    let mut stream = door.connect(HTTP1).await;
    let head = format!(
        "POST /upload HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 20480\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let start = Instant::now();
    for _ in 0..20 {
        stream.write_all(&[b'x'; 1024]).await.unwrap();
        stream.flush().await.unwrap();
        sleep(Duration::from_millis(100)).await;
    }
    assert!(start.elapsed() > Duration::from_secs(1), "longer than the limit");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let received = door.app().last();
    assert_eq!((received.body.len(), received.complete), (20_480, true));
}

#[tokio::test]
async fn over_http2_the_stream_ends_and_the_others_go_on() {
    let door = door("500ms").await;
    let mut connection = RawH2::open(door.connect(HTTP2).await).await;
    connection.send(&headers(1, false, &post(b"/upload", &[]))).await;
    connection.send(&data(1, false, b"begun")).await;
    let (mut answered, mut reset) = (false, false);
    while !(answered && reset) {
        let (kind, flags, stream, _) = connection.next().await.expect("the connection stays");
        answered |= stream == 1 && kind == HEADERS;
        // hyper resets what it has answered and will not read.
        reset |= stream == 1 && (kind == RST_STREAM || (kind == DATA && flags & END_STREAM != 0));
    }
    assert_nothing_whole(&door).await;
    connection.send(&headers(3, true, GET)).await;
    assert!(connection.is_answered(3).await);
}

#[tokio::test]
async fn a_body_that_stops_after_the_answer_began_breaks_both_off_and_the_record_says_so() {
    let door = door("500ms").await;
    let mut stream = door.connect(HTTP1).await;
    let head = format!("POST /echo HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 1000\r\n\r\nbegun");
    stream.write_all(head.as_bytes()).await.unwrap();
    closed(&mut stream).await;
    let details = json!("body_timeout_after_response_started");
    let record = door.edge.records_with(1, &[("response_code_details", details)]).await.remove(0);
    assert_eq!((&record["reason"], &record["decision"]), (&json!("body_timeout"), &json!("failed")));
    assert!(door.app().received().iter().all(|request| !request.complete));
}

#[tokio::test]
async fn a_stream_of_grpc_and_a_tunnel_may_be_silent() {
    let grpc = door_to("grpc", "300ms").await;
    let mut connection = RawH2::open(grpc.connect(HTTP2).await).await;
    let fields = post(b"/echo", &[(b"content-type", b"application/grpc"), (b"te", b"trailers")]);
    connection.send(&headers(1, false, &fields)).await;
    let door = door("300ms").await;
    let mut tunnel = door.connect(HTTP1).await;
    let upgrade =
        format!("GET /upgrade HTTP/1.1\r\nhost: {HOST}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
    tunnel.write_all(upgrade.as_bytes()).await.unwrap();
    let mut buffer = [0; 1024];
    let count = tunnel.read(&mut buffer).await.unwrap();
    assert!(buffer[..count].starts_with(b"HTTP/1.1 101"));
    sleep(Duration::from_secs(1)).await;
    connection.send(&data(1, true, b"at last")).await;
    until("the stream at the service", || async {
        let received = grpc.app().received();
        if received.iter().any(|r| r.complete && r.body == b"at last") { Ok(()) } else { Err(received) }
    })
    .await;
    let silent = timeout(Duration::from_millis(100), tunnel.read(&mut buffer)).await;
    assert!(silent.is_err(), "the tunnel is open");
}

#[tokio::test]
async fn more_requests_than_the_edge_can_do_are_503_at_once_and_admin_answers_all_the_while() {
    let documents = format!("{GATEWAY}---{EVERYBODY}---{TO_LEDGER}");
    let door = Door::with(&documents, |edge| {
        edge.workers(1).arg("--requests-max", "3").arg("--requests-per-address", "unlimited")
    })
    .await;
    let mut waiting = RawH2::open(door.connect(HTTP2).await).await;
    let mut fields = GET.to_vec();
    fields[2] = (b":path", b"/slow/60000");
    for stream in [1, 3, 5] {
        waiting.send(&headers(stream, true, &fields)).await;
    }
    until("three requests at the service", || async {
        let count = door.app().received().len();
        if count == 3 { Ok(()) } else { Err(count) }
    })
    .await;
    door.app().clear();
    for answer in [
        door.get("/").await,
        door.send(request("POST", "/", "a body")).await,
        door.send_h2(super::door::request_h2("GET", HOST, "/", "")).await,
    ] {
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
    door.app().assert_untouched();
    let records = door.edge.records_with(3, &[("reason", json!("overload"))]).await;
    assert!(records.iter().all(|record| record["response_flags"] == "OM"), "{records:?}");
    assert_eq!(door.edge.admin("/ready").await.status, StatusCode::OK);
    // With one less there is room for one more.
    waiting.send(&frame(RST_STREAM, 0, 1, &8_u32.to_be_bytes())).await;
    until("room", || async {
        let answer = door.get("/").await;
        if answer.status == StatusCode::OK { Ok(()) } else { Err(answer.status) }
    })
    .await;
}

#[tokio::test]
async fn a_refusal_over_http2_comes_whole_although_the_body_is_still_on_its_way() {
    let limits = "
apiVersion: palisade.mesh/v1
kind: RateLimitPolicy
metadata: {name: edge, namespace: payments}
spec: {selector: {matchLabels: {app: edge}}, limits: [{name: one, key: [{address: {}}], limit: 1, window: 1h}]}
";
    let documents = format!("{GATEWAY}---{EVERYBODY}---{TO_LEDGER}---{limits}");
    let door = Door::with(&documents, |edge| edge).await;
    door.get("/").await;
    let mut connection = RawH2::open(door.connect(HTTP2).await).await;
    connection.send(&headers(1, false, &post(b"/upload", &[]))).await;
    let mut kinds = Vec::new();
    while !kinds.ends_with(&[DATA]) {
        let (kind, _, stream, _) = connection.next().await.expect("the connection stays");
        kinds.extend((stream == 1).then_some(kind));
    }
    connection.send(&data(1, true, b"a body that nobody wants")).await;
    connection.send(&frame(PING, 0, 0, &[0; 8])).await;
    loop {
        let (kind, flags, stream, _) = connection.next().await.expect("the connection stays");
        kinds.extend((stream == 1).then_some(kind));
        if kind == PING && flags == 1 {
            break;
        }
    }
    // No RST_STREAM, whatever its code: curl 7.88 loses the answer before it.
    assert_eq!(kinds, [HEADERS, DATA]);
}
