//! Faults of VirtualServices: what the caller gets, what the upstream does not, and what records say.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::StatusCode;
use http_body_util::Full;
use palisade_policy::document::time;
use palisade_tests::{Collector, Upstream, client, until};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::{BANK, Caller, calls, request};
use crate::edge::door::{self, Door, request_h2, with};
use crate::edge::routes::routes;

/// One route with this fault, in flow style, and more of its fields.
fn faulty(fault: &str, more: &str) -> String {
    format!(
        "  - {{name: all, {more} fault: {{{fault}}}, route: [{{destination: {{host: bank.example}}}}]}}\n"
    )
}

fn delay(percent: &str, length: &str) -> String {
    format!("delay: {{percentage: {{value: {percent}}}, fixedDelay: {length}}}")
}

fn abort(percent: &str, status: &str) -> String {
    format!("abort: {{percentage: {{value: {percent}}}, {status}}}")
}

async fn outbound(caller: &Caller, count: usize) -> Vec<Value> {
    caller.sidecar.records_with(count, &[("direction", json!("outbound"))]).await
}

#[tokio::test]
async fn a_delay_comes_before_the_upstream_and_does_not_count_against_the_timeout() {
    let caller = Caller::routed(&faulty(&delay("100", "700ms"), "timeout: 300ms,")).await;
    let begun = Instant::now();
    let answer = caller.send(request("POST", "/pay", "pay")).await;
    assert!(begun.elapsed() >= Duration::from_millis(700), "{:?}", begun.elapsed());
    assert_eq!((answer.status, answer.text().as_str()), (StatusCode::OK, "hello from bank"));
    assert_eq!(caller.bank.received().len(), 1);
    assert_eq!(caller.bank.last().body, b"pay");
    let record = &outbound(&caller, 1).await[0];
    assert_eq!(record["response_flags"], "DI", "{record}");
    assert_eq!((&record["fault"], &record["fault_delay_ms"]), (&json!("payments/calls/all"), &json!(700)));
    assert_eq!(record["response_code_details"], "via_upstream");
    // What the upstream took is not the delay.
    assert!(record["upstream_service_time_ms"].as_u64().unwrap() < 700, "{record}");
    assert!(record["duration_ms"].as_u64().unwrap() >= 700, "{record}");
    let injected = ["fault=\"payments/calls/all\"", "type=\"delay\""];
    assert_eq!(caller.sidecar.metric("palisade_faults_injected_total", &injected).await, 1.0);
    assert_eq!(caller.sidecar.metric("istio_requests_total", &["response_flags=\"DI\""]).await, 1.0);
}

#[tokio::test]
async fn an_abort_reaches_no_upstream_and_is_not_tried_again() {
    let http = faulty(&abort("100", "httpStatus: 503"), "retries: {attempts: 3, retryOn: '5xx'},");
    let caller = Caller::routed(&http).await;
    let answer = caller.get("/x").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.text().contains("Fault injected"), "{}", answer.text());
    caller.bank.assert_untouched();
    let record = &outbound(&caller, 1).await[0];
    assert_eq!((&record["response_flags"], &record["reason"]), (&json!("FI"), &json!("fault_abort")));
    assert_eq!(record["response_code_details"], "fault_filter_abort");
    assert_eq!((&record["retry_count"], &record["upstream_host"]), (&json!(0), &Value::Null), "{record}");
    assert_eq!(record["fault"], "payments/calls/all");
    let injected = ["fault=\"payments/calls/all\"", "type=\"abort\""];
    assert_eq!(caller.sidecar.metric("palisade_faults_injected_total", &injected).await, 1.0);
    assert_eq!(caller.sidecar.metric("palisade_upstream_connections_total", &[]).await, 0.0);
}

#[tokio::test]
async fn an_abort_of_a_delayed_request_comes_after_the_delay() {
    let both = format!("{}, {}", delay("100", "300ms"), abort("100", "httpStatus: 429"));
    let caller = Caller::routed(&faulty(&both, "")).await;
    let begun = Instant::now();
    assert_eq!(caller.get("/x").await.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(begun.elapsed() >= Duration::from_millis(300));
    caller.bank.assert_untouched();
    let record = &outbound(&caller, 1).await[0];
    assert_eq!((&record["response_flags"], &record["fault_type"]), (&json!("DI,FI"), &json!("delay,abort")));
}

/// A status that has no body gets none, and one that a policy would give is no refusal by policy.
#[tokio::test]
async fn every_status_of_an_abort_is_an_answer_that_can_be_read() {
    for (status, code) in [
        ("httpStatus: 204", 204),
        ("httpStatus: 200", 200),
        ("httpStatus: 403", 403),
        ("grpcStatus: UNAVAILABLE", 503),
    ] {
        let caller = Caller::routed(&faulty(&abort("100", status), "")).await;
        let mut connection = crate::fleet::connect(caller.proxy()).await;
        for _ in 0..2 {
            connection.ready().await.unwrap();
            let answer = connection.send_request(request("GET", "/x", "")).await.unwrap();
            let answer = client::read(answer).await.unwrap();
            assert_eq!(answer.status.as_u16(), code, "{status}");
            assert_eq!(answer.body.is_empty(), code == 204, "{status}");
        }
        caller.bank.assert_untouched();
        for record in outbound(&caller, 2).await {
            assert_eq!((&record["decision"], &record["response_flags"]), (&json!("failed"), &json!("FI")));
        }
    }
}

#[tokio::test]
async fn callers_of_grpc_get_a_status_of_their_own() {
    for (status, grpc) in
        [("grpcStatus: RESOURCE_EXHAUSTED", "8"), ("httpStatus: 503", "14"), ("httpStatus: 404", "12")]
    {
        let documents = calls("payments", BANK, &faulty(&abort("100", status), ""));
        let caller = Caller::start("GRPC", &documents, |sidecar| sidecar).await;
        let call = with(
            client::request("POST", &format!("http://{BANK}/ledger.Ledger/Pay"), "call"),
            &[("content-type", "application/grpc")],
        );
        let socket = TcpStream::connect(caller.proxy()).await.unwrap();
        let answer = client::send_h2(socket, call).await.unwrap();
        assert_eq!((answer.status, answer.header("grpc-status")), (StatusCode::OK, Some(grpc)), "{status}");
        assert_eq!(answer.header("content-type"), Some("application/grpc"));
        assert!(answer.body.is_empty(), "{answer:?}");
        caller.bank.assert_untouched();
        let record = &outbound(&caller, 1).await[0];
        assert_eq!(record["grpc_status"].to_string(), grpc, "{record}");
        assert_eq!(record["response_flags"], "FI");
    }
}

#[tokio::test]
async fn a_share_is_a_share_and_what_no_fault_is_for_is_left_alone() {
    let http = format!(
        "  - {{name: half, match: [{{uri: {{prefix: /half}}}}], fault: {{{}}}, route: [{{destination: {{host: bank.example}}}}]}}\n\
         \x20 - {{name: none, match: [{{uri: {{prefix: /none}}}}], fault: {{{}, {}}}, route: [{{destination: {{host: bank.example}}}}]}}\n\
         \x20 - {{name: rest, route: [{{destination: {{host: bank.example}}}}]}}\n",
        abort("50", "httpStatus: 503"),
        abort("0", "httpStatus: 503"),
        delay("0", "10m"),
    );
    let caller = Caller::routed(&http).await;
    let mut aborted = 0;
    for _ in 0..200 {
        aborted += usize::from(caller.get("/half").await.status == StatusCode::SERVICE_UNAVAILABLE);
    }
    // 100 are due; the odds against leaving these bounds are beyond one in a million.
    assert!((65..=135).contains(&aborted), "{aborted}");
    assert_eq!(caller.bank.received().len(), 200 - aborted);
    for target in ["/none", "/rest"] {
        for _ in 0..20 {
            assert_eq!(caller.get(target).await.status, StatusCode::OK);
        }
    }
    let records = caller.sidecar.records_with(240, &[("direction", json!("outbound"))]).await;
    let untouched = records.iter().filter(|record| record.get("fault").is_none());
    assert!(untouched.clone().all(|record| record["response_flags"] == "-"));
    assert_eq!(untouched.count(), 240 - aborted);
}

/// A delay holds nothing that its caller has let go of.
#[tokio::test]
async fn a_delay_ends_when_its_caller_leaves() {
    let caller = Caller::routed(&faulty(&delay("100", "10m"), "")).await;
    for (method, path, rest) in [("GET", "/a", "\r\n"), ("POST", "/b", "content-length: 3\r\n\r\npay")] {
        let asked = format!("{method} http://{BANK}{path} HTTP/1.1\r\nhost: {BANK}\r\n{rest}");
        let mut socket = TcpStream::connect(caller.proxy()).await.unwrap();
        socket.write_all(asked.as_bytes()).await.unwrap();
        until("the delay", async || {
            let begun = caller.sidecar.metric("palisade_faults_injected_total", &[]).await;
            let ended = caller.sidecar.metric("istio_requests_total", &[]).await;
            if begun > ended { Ok(()) } else { Err((begun, ended)) }
        })
        .await;
        drop(socket);
        let fields = [("response_flags", json!("DI,DC")), ("path", json!(path))];
        caller.sidecar.records_with(1, &fields).await;
    }
    caller.bank.assert_untouched();
}

/// Who says how long it waits is told then that its time is over, and nothing is sent for nobody.
#[tokio::test]
async fn a_delay_ends_with_the_time_that_its_caller_has() {
    let documents = calls("payments", BANK, &faulty(&delay("100", "10m"), ""));
    let caller = Caller::start("GRPC", &documents, |sidecar| sidecar).await;
    let call = with(
        client::request("POST", &format!("http://{BANK}/ledger.Ledger/Pay"), "call"),
        &[("content-type", "application/grpc"), ("grpc-timeout", "300m")],
    );
    let socket = TcpStream::connect(caller.proxy()).await.unwrap();
    let begun = Instant::now();
    let answer = client::send_h2(socket, call).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(300));
    assert_eq!(answer.header("grpc-status"), Some("4"), "{answer:?}");
    caller.bank.assert_untouched();
    assert_eq!(outbound(&caller, 1).await[0]["response_flags"], "UT,DI");
}

#[tokio::test]
async fn a_delay_ends_when_policy_takes_the_destination_away() {
    let caller = Caller::routed(&faulty(&delay("100", "10m"), "")).await;
    let waiting = tokio::spawn(client::send_on(
        TcpStream::connect(caller.proxy()).await.unwrap(),
        request("POST", "/pay", "pay"),
    ));
    until("the delay", async || {
        let begun = caller.sidecar.metric("palisade_faults_injected_total", &[]).await;
        if begun > 0.0 { Ok(()) } else { Err(begun) }
    })
    .await;
    let nobody = Upstream::start("nobody").await;
    caller.world.policy("bank.yaml", &crate::edge::routes::external("other.example", nobody.address()));
    assert_eq!(waiting.await.unwrap().unwrap().status, StatusCode::FORBIDDEN);
    caller.bank.assert_untouched();
    let record = &outbound(&caller, 1).await[0];
    assert_eq!(record["reason"], "closed_by_policy_change", "{record}");
}

/// What is under way without doing anything has a bound; beyond it requests go on as if there were no fault.
#[tokio::test]
async fn beyond_so_many_delays_no_fault_is_injected_and_that_is_counted() {
    const DELAYS_MAX: usize = 1_000;
    const STREAMS: usize = 50;
    let documents = calls("payments", BANK, &faulty(&delay("100", "10m"), ""));
    let caller = Caller::start("HTTP", &documents, |sidecar| sidecar.workers(1)).await;
    let mut kept = Vec::new();
    for _ in 0..DELAYS_MAX / STREAMS {
        let socket = hyper_util::rt::TokioIo::new(TcpStream::connect(caller.proxy()).await.unwrap());
        let executor = hyper_util::rt::TokioExecutor::new();
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake::<_, _, Full<Bytes>>(executor, socket).await.unwrap();
        let connection = tokio::spawn(connection);
        let waiting: Vec<_> =
            (0..STREAMS).map(|_| tokio::spawn(sender.send_request(request("GET", "/wait", "")))).collect();
        kept.push((sender, connection, waiting));
    }
    until("all delays", async || {
        let begun = caller.sidecar.metric("palisade_faults_injected_total", &["type=\"delay\""]).await;
        if begun == DELAYS_MAX as f64 { Ok(()) } else { Err(begun) }
    })
    .await;
    caller.bank.assert_untouched();
    assert_eq!(caller.get("/goes-on").await.status, StatusCode::OK);
    assert_eq!(caller.bank.last().target, "/goes-on");
    let dropped = ["fault=\"payments/calls/all\""];
    assert_eq!(caller.sidecar.metric("palisade_faults_dropped_total", &dropped).await, 1.0);
    let record = &caller.sidecar.records_with(1, &[("path", json!("/goes-on"))]).await[0];
    assert!(record.get("fault").is_none() && record["response_flags"] == "-", "{record}");
    // What ended has made room.
    let (_sender, _connection, waiting) = kept.pop().unwrap();
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
    caller.sidecar.records_with(STREAMS, &[("response_flags", json!("DI,DC"))]).await;
    let _held = tokio::spawn(client::send_on(
        TcpStream::connect(caller.proxy()).await.unwrap(),
        request("GET", "/held", ""),
    ));
    until("another delay", async || {
        let begun = caller.sidecar.metric("palisade_faults_injected_total", &["type=\"delay\""]).await;
        if begun > DELAYS_MAX as f64 { Ok(()) } else { Err(begun) }
    })
    .await;
}

#[tokio::test]
async fn an_edge_delays_and_aborts_what_it_has_let_in_and_nothing_else() {
    let fault = format!("{}, {}", delay("100", "300ms"), abort("100", "httpStatus: 503"));
    let http = format!(
        "  - {{name: all, fault: {{{fault}}}, route: [{{destination: {{host: ledger}}}}], mirror: {{host: ledger}}}}\n"
    );
    let closed = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-admin, namespace: payments}
spec: {selector: {matchLabels: {app: edge}}, action: DENY, rules: [{to: [{operation: {paths: [/admin]}}]}]}
";
    let door = Door::open(&format!("{}---{closed}", routes(&http))).await;
    assert_eq!(door.get("/admin").await.status, StatusCode::FORBIDDEN);
    let begun = Instant::now();
    let answer = door.send_h2(request_h2("POST", door::HOST, "/pay", "pay")).await;
    assert!(begun.elapsed() >= Duration::from_millis(300));
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    door.app().assert_untouched();
    let records = door.edge.records_with(1, &[("response_flags", json!("DI,FI"))]).await;
    assert_eq!(records[0]["fault"], "payments/api/all");
    assert_eq!(door.edge.metric("palisade_faults_injected_total", &[]).await, 2.0);
}

/// Inside the tries of an edge, as of a sidecar; what its route's fault does comes before, and both are marked.
#[tokio::test]
async fn an_experiment_names_an_edge_as_its_caller() {
    let fault = delay("100", "50ms");
    let http = format!("  - {{name: all, fault: {{{fault}}}, route: [{{destination: {{host: ledger}}}}]}}\n");
    let experiment = format!(
        "
apiVersion: palisade.mesh/v1
kind: FaultExperiment
metadata: {{name: trial, namespace: payments}}
spec:
  callers: [test.mesh/ns/payments/sa/edge]
  hosts: [ledger]
  startsAt: {}
  duration: 5m
  match: [{{paths: [/pay]}}]
  fault: {{response: {{drop: {{}}}}}}
",
        time::write(SystemTime::now())
    );
    let door = Door::open(&format!("{}---{experiment}", routes(&http))).await;
    assert_eq!(door.get("/other").await.status, StatusCode::OK);
    let answer = door.send_h2(request_h2("POST", door::HOST, "/pay", "pay")).await;
    assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
    let paid = door.app().received().into_iter().filter(|received| received.target == "/pay");
    assert_eq!(paid.count(), 1);
    let record = &door.edge.records_with(1, &[("reason", json!("fault_drop"))]).await[0];
    assert_eq!(record["fault"], "payments/api/all,payments/trial");
    assert_eq!((&record["fault_type"], &record["response_flags"]), (&json!("delay,drop"), &json!("DI,FI")));
}

#[tokio::test]
async fn a_trace_says_what_was_injected() {
    let collector = Collector::start().await;
    let fault = format!("{}, {}", delay("100", "50ms"), abort("100", "httpStatus: 503"));
    let documents = calls("payments", BANK, &faulty(&fault, ""));
    let url = collector.url();
    let caller = Caller::start("HTTP", &documents, |sidecar| {
        sidecar.arg("--otlp-endpoint", &url).arg("--trace-sample", "1")
    })
    .await;
    assert_eq!(caller.get("/x").await.status, StatusCode::SERVICE_UNAVAILABLE);
    let span = until("the span", async || {
        let spans = collector.spans();
        spans.iter().find(|span| span.attributes.contains_key("palisade.fault")).cloned().ok_or(spans)
    })
    .await;
    assert_eq!(span.attribute("palisade.fault"), "payments/calls/all");
    assert_eq!(span.attribute("palisade.fault.type"), "delay,abort");
    assert_eq!(span.attribute("palisade.fault.delay_ms"), "50");
    assert_eq!(span.attribute("palisade.response_flags"), "DI,FI");
}
