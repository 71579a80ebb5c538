//! What becomes of answers: they break off and never look whole, or they are slow.

use std::net::SocketAddr;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use palisade_tests::Upstream;
use palisade_tests::client::{self, request as to};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::{MS, all, experiment, injected, marked, rule};
use crate::kit::Caller;

/// What a caller has of an answer, and whether it takes it for whole.
#[derive(Debug, PartialEq, Eq)]
struct Had {
    bytes: usize,
    whole: bool,
    grpc_status: Option<String>,
}

async fn had(mut body: Incoming) -> Had {
    let mut had = Had { bytes: 0, whole: true, grpc_status: None };
    while let Some(frame) = timeout(palisade_tests::DEADLINE, body.frame()).await.expect("a frame in time") {
        let Ok(frame) = frame else {
            had.whole = false;
            break;
        };
        match frame.into_data() {
            Ok(data) => had.bytes += data.len(),
            Err(frame) => {
                let trailers = frame.into_trailers().unwrap();
                had.grpc_status = trailers.get("grpc-status").map(|s| s.to_str().unwrap().to_owned());
            }
        }
    }
    had
}

async fn ask_http1(proxy: SocketAddr, request: Request<Full<Bytes>>) -> Had {
    let socket = TokioIo::new(TcpStream::connect(proxy).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(socket).await.unwrap();
    tokio::spawn(connection);
    had(sender.send_request(request).await.unwrap().into_body()).await
}

async fn ask_http2(proxy: SocketAddr, request: Request<Full<Bytes>>) -> Had {
    let socket = TokioIo::new(TcpStream::connect(proxy).await.unwrap());
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), socket).await.unwrap();
    tokio::spawn(connection);
    had(sender.send_request(request).await.unwrap().into_body()).await
}

fn get(path: &str) -> Request<Full<Bytes>> {
    to("GET", &format!("http://bank.example{path}"), "")
}

fn cut(bytes: usize) -> Had {
    Had { bytes, whole: false, grpc_status: None }
}

fn whole(bytes: usize) -> Had {
    Had { bytes, whole: true, grpc_status: None }
}

#[tokio::test]
async fn an_answer_that_breaks_off_never_looks_whole() {
    let bank = Upstream::start("bank").await;
    let documents = experiment("response: {truncate: {afterBytes: 10}}", "");
    for protocol in ["HTTP", "HTTP2"] {
        let caller = Caller::of(&[bank.address()], protocol, &documents).await;
        let proxy = caller.sidecar.http_proxy();
        // `/` tells its length, and `/bytes` does not.
        for path in ["/", "/bytes/200000"] {
            assert_eq!(ask_http1(proxy, get(path)).await, cut(10), "{protocol} {path}");
            assert_eq!(ask_http2(proxy, get(path)).await, cut(10), "{protocol} {path}");
        }
        let records = marked(&caller, 4, "truncate").await;
        for record in records {
            assert_eq!(
                (&record["reason"], &record["response_flags"]),
                (&json!("fault_truncate"), &json!("FI"))
            );
            assert_eq!((&record["bytes_sent"], &record["response_code"]), (&json!(10), &json!(200)));
            assert_eq!(record["response_code_details"], "fault_truncate_after_response_started");
        }
        assert_eq!(injected(&caller.sidecar, "truncate").await, 4.0);
    }
}

/// Breaking off, a codec throws away what it holds: what may pass has left it before.
#[tokio::test]
async fn every_byte_before_the_break_arrives() {
    let bank = Upstream::start("bank").await;
    let documents = experiment("response: {truncate: {afterBytes: 300000}}", "");
    let caller = Caller::of(&[bank.address()], "HTTP", &documents).await;
    let proxy = caller.sidecar.http_proxy();
    for _ in 0..10 {
        assert_eq!(ask_http1(proxy, get("/bytes/300001")).await, cut(300_000));
        assert_eq!(ask_http2(proxy, get("/bytes/300001")).await, cut(300_000));
    }
}

#[tokio::test]
async fn what_is_not_longer_than_it_may_be_is_whole_and_unmarked() {
    let bank = Upstream::start("bank").await;
    let documents = experiment("response: {truncate: {afterBytes: 15}}", "");
    let caller = Caller::of(&[bank.address()], "HTTP", &documents).await;
    let proxy = caller.sidecar.http_proxy();
    // `hello from bank`, and none.
    for (request, expected) in [
        (get("/"), 15),
        (get("/bytes/15"), 15),
        (get("/bytes/0"), 0),
        (to("HEAD", "http://bank.example/bytes/99", ""), 0),
    ] {
        assert_eq!(ask_http1(proxy, request).await, whole(expected));
    }
    let records = caller.sidecar.records_with(4, &[("response_flags", json!("-"))]).await;
    assert!(records.iter().all(|record| record.get("fault").is_none()), "{records:#?}");
    assert_eq!(ask_http1(proxy, get("/bytes/16")).await, cut(15));
}

/// It takes the end of the connection for the end of the body, where it is told no length.
#[tokio::test]
async fn a_caller_that_could_not_tell_gets_all_of_it() {
    let bank = Upstream::start("bank").await;
    let documents = experiment("response: {truncate: {afterBytes: 10}}", "");
    let caller = Caller::of(&[bank.address()], "HTTP", &documents).await;
    for (target, expected) in [("/bytes/5000", "x".repeat(5000)), ("/", "hello from".to_owned())] {
        let mut socket = TcpStream::connect(caller.sidecar.http_proxy()).await.unwrap();
        let asked = format!("GET http://bank.example{target} HTTP/1.0\r\nhost: bank.example\r\n\r\n");
        let answer = client::raw(&mut socket, asked.as_bytes()).await;
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, expected, "{head}");
        assert_eq!(head.contains("content-length: 15"), target == "/", "{head}");
    }
    assert_eq!(injected(&caller.sidecar, "truncate").await, 1.0);
}

/// Its handshake may be delayed; what follows is no body.
#[tokio::test]
async fn what_has_become_a_websocket_is_left_alone() {
    let bank = Upstream::start("bank").await;
    let fault =
        "delay: {fixed: 50ms}, response: {truncate: {afterBytes: 1}, slow: {everyBytes: 1, pause: 1h}}";
    let caller = Caller::of(&[bank.address()], "HTTP", &experiment(fault, "maxActive: 1\n")).await;
    for _ in 0..2 {
        let mut socket = TcpStream::connect(caller.sidecar.http_proxy()).await.unwrap();
        let asked = "GET http://bank.example/upgrade HTTP/1.1\r\nhost: bank.example\r\nconnection: upgrade\r\n\
                     upgrade: websocket\r\n\r\nthere and back";
        let answer = String::from_utf8(client::raw(&mut socket, asked.as_bytes()).await).unwrap();
        assert!(answer.starts_with("HTTP/1.1 101") && answer.ends_with("\r\n\r\nthere and back"), "{answer}");
    }
    let records = marked(&caller, 2, "delay").await;
    assert!(records.iter().all(|record| record["response_code"] == 101), "{records:#?}");
}

#[tokio::test]
async fn callers_of_grpc_are_told_in_trailers_that_an_answer_broke_off() {
    let bank = Upstream::start("bank").await;
    let documents = experiment("response: {truncate: {afterBytes: 3}}", "");
    let caller = Caller::of(&[bank.address()], "GRPC", &documents).await;
    let mut call = to("POST", "http://bank.example/echo/ledger.Ledger", "call");
    call.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    let told = ask_http2(caller.sidecar.http_proxy(), call).await;
    assert_eq!(told, Had { bytes: 3, whole: true, grpc_status: Some("14".into()) });
    assert_eq!(marked(&caller, 1, "truncate").await[0]["grpc_status"], 14);
}

#[tokio::test]
async fn a_body_is_slow_by_parts_or_has_a_bandwidth_and_is_whole_all_the_same() {
    let bank = Upstream::start("bank").await;
    let parts = "slow: {everyBytes: 1000, pause: 100ms}";
    for (kind, pace, least) in
        [("slow", parts, 400), ("bandwidth", "bandwidth: {bytesPerSecond: 10000}", 450)]
    {
        let documents = experiment(&format!("response: {{{pace}}}"), "");
        let caller = Caller::of(&[bank.address()], "HTTP", &documents).await;
        let proxy = caller.sidecar.http_proxy();
        let began = Instant::now();
        assert_eq!(ask_http1(proxy, get("/bytes/5000")).await, whole(5000));
        assert!(began.elapsed() >= MS(least), "{kind}: {:?}", began.elapsed());
        assert_eq!(ask_http2(proxy, get("/bytes/5000")).await, whole(5000));
        let records = marked(&caller, 2, kind).await;
        assert!(records.iter().all(|record| record["response_flags"] == "DI"), "{records:#?}");
        assert!(records.iter().all(|record| record["duration_ms"].as_u64().unwrap() >= least));
        assert_eq!(injected(&caller.sidecar, kind).await, 2.0);
    }
}

#[tokio::test]
async fn a_slow_body_ends_with_the_time_of_its_route() {
    let bank = Upstream::start("bank").await;
    let route = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: bank, namespace: payments}
spec:
  hosts: [bank.example]
  http: [{name: all, timeout: 400ms, route: [{destination: {host: bank.example}}]}]
";
    let slow = experiment("response: {slow: {everyBytes: 100, pause: 1h}}", "");
    // It resets what it cannot send for long enough; here nobody waits for so long.
    let breaker = rule("{outlierDetection: {consecutive5xxErrors: 1, baseEjectionTime: 60s}}");
    let caller = Caller::of(&[bank.address()], "HTTP", &all(&[&slow, route, &breaker])).await;
    let proxy = caller.sidecar.http_proxy();
    for _ in 0..3 {
        assert_eq!(ask_http1(proxy, get("/bytes/5000")).await, cut(100));
    }
    let records = marked(&caller, 3, "slow").await;
    assert!(records.iter().all(|record| record["response_flags"] == "UT,DI"), "{records:#?}");
}
