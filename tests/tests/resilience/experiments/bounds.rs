//! Bounds meet faults as they would meet a slow or broken upstream; the endpoints get no blame for them.

use palisade_tests::wild::Act;
use palisade_tests::{Wild, client, until};
use serde_json::{Value, json};

use super::{ID, all, experiment, injected, marked, retries, rule, until_injected};
use crate::kit::{Caller, request};

async fn upstreams(caller: &Caller) -> Value {
    serde_json::from_str(&caller.sidecar.admin("/upstreams").await.text()).unwrap()
}

/// One request, and as many more as `count` at once when the first is held up. Gives their statuses, sorted.
async fn behind_one(caller: &Caller, count: usize) -> Vec<u16> {
    let proxy = caller.sidecar.http_proxy();
    let call =
        |n: usize| async move { client::send(proxy, request("POST", &n.to_string(), "")).await.status };
    let mut each = vec![tokio::spawn(call(0))];
    until_injected(&caller.sidecar, "delay", 1.0).await;
    each.extend((1..=count).map(|n| tokio::spawn(call(n))));
    let mut statuses = Vec::new();
    for task in each {
        statuses.push(task.await.unwrap().as_u16());
    }
    statuses.sort_unstable();
    statuses
}

#[tokio::test]
async fn delays_fill_the_places_that_a_slow_upstream_would_fill() {
    let bank = Wild::http1(|_| Act::Answer(200)).await;
    let delay = experiment("delay: {fixed: 2s}", "");
    for (pool, served) in [
        ("{http: {http2MaxRequests: 2}}", 2),
        ("{tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 1}}", 2),
    ] {
        let policy = format!("{{connectionPool: {pool}}}");
        let caller = Caller::with(&[bank.address()], "HTTP", &all(&[&delay, &rule(&policy)]), 1).await;
        let mut expected = vec![200; served];
        expected.resize(5, 503);
        assert_eq!(behind_one(&caller, 4).await, expected, "{pool}");
        let fields = [("response_flags", json!("UO")), ("reason", json!("upstream_overflow"))];
        caller.sidecar.records_with(5 - served, &fields).await;
    }
    assert_eq!(bank.delivered().len(), 4);
}

#[tokio::test]
async fn no_fault_leaves_an_endpoint_out() {
    let banks = [Wild::http1(|_| Act::Answer(200)).await, Wild::http1(|_| Act::Answer(200)).await];
    let breaker = rule(
        "{loadBalancer: {simple: ROUND_ROBIN}, outlierDetection: {consecutive5xxErrors: 1, \
         consecutiveGatewayErrors: 1, splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 1, \
         interval: 1s, baseEjectionTime: 60s, maxEjectionPercent: 100}}",
    );
    let short = retries("attempts: 1, perTryTimeout: 100ms, retryOn: connect-failure");
    for (fault, status) in [
        ("delay: {fixed: 10m}", 504),
        ("abort: {httpStatus: 503}", 503),
        ("abort: {httpStatus: 500}", 500),
        ("reset: {}", 502),
        ("response: {drop: {}}", 502),
        ("delay: {fixed: 10ms}, response: {truncate: {afterBytes: 1}}", 200),
    ] {
        let documents = all(&[&experiment(fault, ""), &breaker, &short]);
        let caller = Caller::with(&banks.each_ref().map(Wild::address), "HTTP", &documents, 1).await;
        for n in 0..8 {
            let proxy = caller.sidecar.http_proxy();
            match client::try_send(proxy, request("POST", &n.to_string(), "")).await {
                Ok(answer) => assert_eq!(answer.status, status, "{fault}"),
                Err(_broken_off) => assert_eq!(status, 200, "{fault}"),
            }
        }
        assert_eq!(caller.sidecar.metric("palisade_upstream_ejections_total", &[]).await, 0.0, "{fault}");
        let page = upstreams(&caller).await;
        for endpoint in page[0]["endpoints"].as_array().unwrap() {
            assert_eq!(endpoint["state"], "healthy", "{fault}: {page}");
        }
    }
}

/// A breaker sees through a delay what the endpoint itself does.
#[tokio::test]
async fn an_endpoint_that_fails_under_a_delay_is_left_out_and_one_that_answers_keeps_its_latency() {
    let bad = Wild::http1(|_| Act::Answer(500)).await;
    let good = Wild::http1(|_| Act::Answer(200)).await;
    let breaker = rule(
        "{loadBalancer: {simple: ROUND_ROBIN}, outlierDetection: {consecutive5xxErrors: 2, \
         baseEjectionTime: 60s, maxEjectionPercent: 100}}",
    );
    let documents = all(&[&experiment("delay: {fixed: 200ms}", ""), &breaker]);
    let caller = Caller::with(&[bad.address(), good.address()], "HTTP", &documents, 1).await;
    for n in 0..8 {
        caller.call("POST", &n.to_string(), "").await;
    }
    assert_eq!((bad.delivered().len(), good.delivered().len()), (2, 6));
    let page = upstreams(&caller).await;
    let all = page[0]["endpoints"].as_array().unwrap();
    let one = |at: &Wild| all.iter().find(|e| e["address"] == at.address().to_string()).unwrap();
    assert_eq!(one(&bad)["cause"], "consecutive_5xx", "{page}");
    assert!(one(&good)["latency_ms"].as_f64().unwrap() < 200.0, "{page}");
}

#[tokio::test]
async fn so_many_are_under_it_at_once_in_all_workers_and_more_go_on_unharmed() {
    let bank = Wild::http1(|_| Act::Answer(200)).await;
    let documents = experiment("delay: {fixed: 10m}", "maxActive: 3\n");
    let caller = Caller::with(&[bank.address()], "HTTP", &documents, 4).await;
    let proxy = caller.sidecar.http_proxy();
    let call = |n: usize| async move { client::try_send(proxy, request("POST", &n.to_string(), "")).await };
    let each: Vec<_> = (0..20).map(|n| tokio::spawn(call(n))).collect();
    until("those that go on", || async {
        let count = bank.delivered().len();
        if count == 17 { Ok(()) } else { Err(count) }
    })
    .await;
    assert_eq!(injected(&caller.sidecar, "delay").await, 3.0);
    let id = format!("fault=\"{ID}\"");
    assert_eq!(caller.sidecar.metric("palisade_faults_dropped_total", &[&id]).await, 17.0);
    let unharmed = caller.sidecar.records_with(17, &[("response_flags", json!("-"))]).await;
    assert!(unharmed.iter().all(|record| record.get("fault").is_none()));
    // Who leaves makes room.
    each.iter().for_each(tokio::task::JoinHandle::abort);
    marked(&caller, 3, "delay").await;
    let held = tokio::spawn(call(20));
    until_injected(&caller.sidecar, "delay", 4.0).await;
    held.abort();
}

/// A body under an experiment holds its place to its end.
#[tokio::test]
async fn a_slow_answer_holds_its_place() {
    let bank = palisade_tests::Upstream::start("bank").await;
    let documents = experiment("response: {slow: {everyBytes: 10, pause: 1h}}", "maxActive: 1\n");
    let caller = Caller::of(&[bank.address()], "HTTP", &documents).await;
    let proxy = caller.sidecar.http_proxy();
    let get = || client::try_send(proxy, client::request("GET", "http://bank.example/bytes/5000", ""));
    let slow = tokio::spawn(get());
    until_injected(&caller.sidecar, "slow", 1.0).await;
    assert_eq!(get().await.unwrap().body.len(), 5000);
    slow.abort();
    marked(&caller, 1, "slow").await;
    let slow = tokio::spawn(get());
    until_injected(&caller.sidecar, "slow", 2.0).await;
    slow.abort();
}
