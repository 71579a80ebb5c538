//! Delays, aborts, resets and lost answers: limits of time and the rules of what is tried again meet them as if the upstream
//! behaved so.

use std::time::SystemTime;

use palisade_tests::client::{self, request as to};
use palisade_tests::wild::Act;
use palisade_tests::{Collector, Upstream, Wild};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::{MS, all, experiment, injected, marked, retries};
use crate::kit::{Caller, request};

#[tokio::test]
async fn a_delay_comes_before_the_request_is_sent_and_is_marked_everywhere() {
    let bank = Wild::http1(|_| Act::Answer(200)).await;
    let caller = Caller::of(&[bank.address()], "HTTP", &experiment("delay: {fixed: 400ms}", "")).await;
    let began = Instant::now();
    assert_eq!(caller.call("POST", "1", "pay").await.status, 200);
    assert!(began.elapsed() >= MS(400), "{:?}", began.elapsed());
    assert_eq!(bank.delivered().len(), 1);
    assert_eq!(bank.delivered()[0].body, b"pay");
    let record = &marked(&caller, 1, "delay").await[0];
    assert_eq!((&record["response_flags"], &record["fault_delay_ms"]), (&json!("DI"), &json!(400)));
    assert!(record["upstream_service_time_ms"].as_u64().unwrap() < 400, "what the upstream took: {record}");
    assert_eq!(injected(&caller.sidecar, "delay").await, 1.0);
    assert_eq!(caller.sidecar.metric("istio_requests_total", &["response_flags=\"DI\""]).await, 1.0);
}

#[tokio::test]
async fn a_delay_may_be_drawn_anew_for_every_attempt() {
    let bank = Wild::http1(|_| Act::Answer(200)).await;
    // Least and most, in milliseconds, and where the middle lies: an exponential one is mostly short.
    let rows = [
        ("uniform: {min: 100ms, max: 500ms}", 100..=500, 180..=420),
        ("exponential: {mean: 100ms, max: 600ms}", 0..=600, 20..=150),
    ];
    for (delay, bounds, middle) in rows {
        let caller =
            Caller::of(&[bank.address()], "HTTP", &experiment(&format!("delay: {{{delay}}}"), "")).await;
        let began = Instant::now();
        let calls = (0..40).map(|_| caller.call("GET", "1", ""));
        assert!(futures_util::future::join_all(calls).await.iter().all(|answer| answer.status == 200));
        let records = marked(&caller, 40, "delay").await;
        let mut delays: Vec<u64> = records.iter().map(|r| r["fault_delay_ms"].as_u64().unwrap()).collect();
        delays.sort_unstable();
        assert!(delays.iter().all(|delay| bounds.contains(delay)), "{delay}: {delays:?}");
        assert!(middle.contains(&delays[20]) && delays[0] < delays[39], "{delay}: {delays:?}");
        assert!(began.elapsed() >= MS(delays[39]), "{delay}: it was waited for");
    }
}

#[tokio::test]
async fn a_delay_counts_against_the_time_of_a_try_and_what_is_safe_is_tried_again() {
    let bank = Wild::http1(|_| Act::Answer(200)).await;
    let documents = [
        experiment("delay: {fixed: 10m}", ""),
        retries("attempts: 2, perTryTimeout: 150ms, retryOn: reset, backoff: 1ms"),
    ];
    let caller = Caller::of(&[bank.address()], "HTTP", &all(&documents)).await;
    for (method, tries) in [("POST", 1), ("GET", 3)] {
        assert_eq!(caller.call(method, method, "").await.status, 504, "{method}");
        let fields = [("method", json!(method)), ("response_flags", json!("UT,DI"))];
        let record = &caller.sidecar.records_with(1, &fields).await[0];
        assert_eq!(record["retry_count"], tries - 1, "{record}");
    }
    assert_eq!(injected(&caller.sidecar, "delay").await, 4.0);
    assert!(bank.delivered().is_empty(), "nobody waited for it long enough");
}

#[tokio::test]
async fn a_delay_ends_with_the_time_that_its_caller_has() {
    let bank = Wild::http1(|_| Act::Answer(200)).await;
    let caller = Caller::of(&[bank.address()], "HTTP", &experiment("delay: {fixed: 10m}", "")).await;
    let mut hurried = request("POST", "1", "pay");
    let until = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap() + MS(300);
    hurried.headers_mut().insert("x-palisade-deadline", until.as_millis().to_string().parse().unwrap());
    let began = Instant::now();
    assert_eq!(caller.send(hurried).await.status, 504);
    assert!(began.elapsed() < MS(5_000), "{:?}", began.elapsed());
    assert!(bank.delivered().is_empty());
    caller.sidecar.records_with(1, &[("reason", json!("request_timeout"))]).await;
}

/// A server closes what nobody asks for a while; that is not its fault, and the request is not lost.
#[tokio::test]
async fn a_connection_that_closes_during_a_delay_is_made_anew() {
    let bank = Wild::impatient(MS(100), |_| Act::Answer(200)).await;
    let rule = super::rule("{outlierDetection: {consecutive5xxErrors: 1, baseEjectionTime: 60s}}");
    let documents = all(&[&experiment("delay: {fixed: 500ms}", ""), &rule]);
    let caller = Caller::of(&[bank.address()], "HTTP", &documents).await;
    for n in 0..3 {
        assert_eq!(caller.call("POST", &n.to_string(), "pay").await.status, 200);
    }
    assert_eq!(bank.by_id().values().copied().collect::<Vec<_>>(), [1, 1, 1]);
    assert_eq!(injected(&caller.sidecar, "delay").await, 3.0, "each waits once");
}

#[tokio::test]
async fn an_abort_reaches_nobody_and_is_tried_again_where_an_answer_would_be() {
    let bank = Wild::http1(|_| Act::Answer(200)).await;
    let documents =
        [experiment("abort: {httpStatus: 503}", ""), retries("attempts: 2, retryOn: 5xx, backoff: 1ms")];
    let caller = Caller::of(&[bank.address()], "HTTP", &all(&documents)).await;
    for (method, tries) in [("POST", 1), ("GET", 3)] {
        let answer = caller.call(method, method, "pay").await;
        assert_eq!(answer.status, 503, "{method}");
        assert!(answer.text().contains("Fault injected"), "{}", answer.text());
        let record = &caller.sidecar.records_with(1, &[("method", json!(method))]).await[0];
        assert_eq!((&record["response_flags"], &record["reason"]), (&json!("FI"), &json!("fault_abort")));
        assert_eq!((&record["retry_count"], &record["fault_type"]), (&json!(tries - 1), &json!("abort")));
        assert_eq!(record["upstream_service_time_ms"], Value::Null, "nobody was asked: {record}");
    }
    assert!(bank.delivered().is_empty());
    assert_eq!(injected(&caller.sidecar, "abort").await, 4.0);
}

/// Whoever sends a large body reads an answer only behind it.
#[tokio::test]
async fn an_abort_of_an_upload_is_an_answer_that_its_caller_can_read() {
    let bank = Upstream::start("bank").await;
    let caller = Caller::of(&[bank.address()], "HTTP", &experiment("abort: {httpStatus: 429}", "")).await;
    for _ in 0..5 {
        let upload = to("POST", "http://bank.example/upload", &"x".repeat(8 << 20));
        assert_eq!(caller.send(upload).await.status, 429);
    }
    bank.assert_untouched();
    let records = marked(&caller, 5, "abort").await;
    assert!(records.iter().all(|record| record["bytes_received"] == 8 << 20), "{records:#?}");
}

#[tokio::test]
async fn callers_of_grpc_get_a_status_and_its_rules_of_repeating() {
    let bank = Upstream::start("bank").await;
    for (fault, grpc) in [
        ("abort: {grpcStatus: RESOURCE_EXHAUSTED}", "8"),
        ("abort: {httpStatus: 503}", "14"),
        ("reset: {}", "14"),
        ("response: {drop: {}}", "14"),
    ] {
        bank.clear();
        let caller = Caller::of(&[bank.address()], "GRPC", &experiment(fault, "")).await;
        let mut call = to("POST", "http://bank.example/ledger.Ledger/Pay", "call");
        call.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
        let socket = TcpStream::connect(caller.sidecar.http_proxy()).await.unwrap();
        let answer = client::send_h2(socket, call).await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.header("grpc-status")), (200, Some(grpc)), "{fault}");
        assert_eq!(bank.received().len(), usize::from(fault.contains("drop")), "{fault}");
    }
}

#[tokio::test]
async fn a_reset_may_have_been_processed_and_only_what_is_safe_is_tried_again() {
    let bank = Wild::http1(|_| Act::Answer(200)).await;
    let documents =
        [experiment("reset: {}", ""), retries("attempts: 2, retryOn: 'reset,connect-failure', backoff: 1ms")];
    let caller = Caller::of(&[bank.address()], "HTTP", &all(&documents)).await;
    for (method, tries) in [("POST", 1), ("GET", 3)] {
        assert_eq!(caller.call(method, method, "pay").await.status, 502, "{method}");
        let record = &caller.sidecar.records_with(1, &[("method", json!(method))]).await[0];
        assert_eq!((&record["response_flags"], &record["reason"]), (&json!("FI"), &json!("fault_reset")));
        assert_eq!((&record["retry_count"], &record["fault_type"]), (&json!(tries - 1), &json!("reset")));
    }
    assert!(bank.delivered().is_empty());
}

/// The case in which careless callers charge twice.
#[tokio::test]
async fn a_lost_answer_leaves_one_payment_at_the_upstream_and_an_error_at_the_caller() {
    for (bank, protocol) in [
        (Wild::http1(|_| Act::Answer(200)).await, "HTTP"),
        (Wild::http2(|_| Act::Answer(200)).await, "HTTP2"),
    ] {
        let documents =
            [experiment("response: {drop: {}}", ""), retries("attempts: 2, retryOn: reset, backoff: 1ms")];
        let caller = Caller::of(&[bank.address()], protocol, &all(&documents)).await;
        assert_eq!(caller.call("POST", "pay", "pay").await.status, 502);
        assert_eq!(bank.delivered().len(), 1, "{protocol}: it was processed, and is not sent again");
        assert_eq!(bank.delivered()[0].body, b"pay");
        let record = &marked(&caller, 1, "drop").await[0];
        assert_eq!((&record["response_flags"], &record["reason"]), (&json!("FI"), &json!("fault_drop")));
        assert_eq!(record["retry_count"], 0);

        assert_eq!(caller.call("GET", "look", "").await.status, 502);
        assert_eq!(bank.delivered().len(), 1 + 3, "{protocol}: what does no harm is tried again");
        assert_eq!(injected(&caller.sidecar, "drop").await, 4.0);
    }
}

/// A share of the answers is lost: a caller that is safe to try again has its answer all the same.
#[tokio::test]
async fn what_is_tried_again_is_drawn_again() {
    let bank = Wild::http1(|_| Act::Answer(200)).await;
    let documents = [
        experiment("reset: {}", "percentage: {value: 50}\n"),
        retries("attempts: 10, retryOn: reset, backoff: 1ms"),
    ];
    let caller = Caller::of(&[bank.address()], "HTTP", &all(&documents)).await;
    for n in 0..100 {
        // One in 2 048 is lost with all of its tries.
        let status = caller.call("GET", &n.to_string(), "").await.status;
        assert!(status == 200 || status == 502, "{status}");
    }
    let delivered = bank.delivered().len();
    assert!((95..=100).contains(&delivered), "{delivered}");
    let resets = injected(&caller.sidecar, "reset").await;
    assert!((40.0..=200.0).contains(&resets), "100 are due: {resets}");
}

#[tokio::test]
async fn a_trace_says_which_try_a_fault_was_injected_into() {
    let rows = [
        ("delay: {fixed: 50ms}, abort: {httpStatus: 503}", "delay,abort", 2),
        ("reset: {}", "reset", 2),
        ("response: {drop: {}}", "drop", 2),
        ("response: {truncate: {afterBytes: 1}}", "truncate", 2),
        ("response: {slow: {everyBytes: 1, pause: 10ms}}", "slow", 2),
        ("response: {bandwidth: {bytesPerSecond: 100}}", "bandwidth", 2),
    ];
    for (fault, name, count) in rows {
        let collector = Collector::start().await;
        let bank = Wild::http1(|_| Act::Answer(200)).await;
        let url = collector.url();
        let caller = Caller::start(&[bank.address()], "HTTP", &experiment(fault, ""), |sidecar| {
            sidecar.arg("--otlp-endpoint", &url).arg("--trace-sample", "1")
        })
        .await;
        let _broken_off = client::try_send(caller.sidecar.http_proxy(), request("POST", "1", "")).await;
        let spans = palisade_tests::until("both spans", || async {
            let spans = collector.spans();
            let marked: Vec<_> =
                spans.iter().filter(|span| span.attributes.contains_key("palisade.fault")).cloned().collect();
            if marked.len() == count { Ok(marked) } else { Err(spans) }
        })
        .await;
        for span in spans {
            assert_eq!(span.attribute("palisade.fault"), super::ID);
            assert_eq!(span.attribute("palisade.fault.type"), name, "{fault}");
        }
    }
}
