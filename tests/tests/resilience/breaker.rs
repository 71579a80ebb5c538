//! Endpoints that fail are left out, and destinations take so much at once.

use palisade_tests::wild::Act;
use palisade_tests::{Wild, client, until};
use serde_json::{Value, json};

use crate::kit::{Caller, request};

pub(crate) fn rule(traffic_policy: &str) -> String {
    format!(
        "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: bank, namespace: payments}}
spec:
  host: bank.example
  trafficPolicy: {traffic_policy}
"
    )
}

/// What the sidecar says of its only upstream.
pub(crate) async fn upstream(caller: &Caller) -> Value {
    let page: Value = serde_json::from_str(&caller.sidecar.admin("/upstreams").await.text()).unwrap();
    page[0].clone()
}

#[tokio::test]
async fn an_endpoint_that_fails_five_times_in_a_row_is_left_out_and_comes_back() {
    let bad = Wild::http1(|_| Act::Answer(500)).await;
    let good = Wild::http1(|_| Act::Answer(200)).await;
    let policy = "{loadBalancer: {simple: ROUND_ROBIN}, \
                  outlierDetection: {consecutive5xxErrors: 5, baseEjectionTime: 2s, interval: 1s}}";
    let caller = Caller::with(&[bad.address(), good.address()], "HTTP", &rule(policy), 1).await;
    let mut failed = 0;
    for n in 0..30 {
        failed += usize::from(caller.call("POST", &n.to_string(), "pay").await.status == 500);
    }
    assert_eq!((failed, bad.delivered().len(), good.delivered().len()), (5, 5, 25));
    let page = upstream(&caller).await;
    let all = page["endpoints"].as_array().unwrap();
    let out = all.iter().find(|endpoint| endpoint["state"] == "ejected").unwrap();
    let bad_address = json!(bad.address().to_string());
    assert_eq!((&out["address"], &out["cause"]), (&bad_address, &json!("consecutive_5xx")));
    let ejections = ["cause=\"consecutive_5xx\""];
    assert_eq!(caller.sidecar.metric("palisade_upstream_ejections_total", &ejections).await, 1.0);
    let log = caller.sidecar.process.log();
    assert!(log.contains("an endpoint is left out") && log.contains("consecutive_5xx"), "{log}");

    until("the endpoint to be asked again", || async {
        caller.call("POST", "again", "pay").await;
        if bad.delivered().len() > 5 { Ok(()) } else { Err(upstream(&caller).await) }
    })
    .await;
    until("the log to say so", || async {
        let log = caller.sidecar.process.log();
        let line = log.lines().find(|line| line.contains("an endpoint is back"));
        if line.is_some_and(|line| line.contains("consecutive_5xx")) { Ok(()) } else { Err(log) }
    })
    .await;
}

#[tokio::test]
async fn with_its_only_endpoint_left_out_a_destination_refuses_at_once() {
    let bad = Wild::http1(|_| Act::Reset).await;
    let policy = "{outlierDetection: {consecutive5xxErrors: 3, baseEjectionTime: 60s}}";
    let caller = Caller::of(&[bad.address()], "HTTP", &rule(policy)).await;
    for n in 0..3 {
        assert_eq!(caller.call("POST", &n.to_string(), "").await.status, 502);
    }
    assert_eq!(caller.call("POST", "4", "").await.status, 503);
    assert_eq!(bad.delivered().len(), 3);
    let fields = [("response_flags", json!("UH")), ("reason", json!("no_healthy_endpoint"))];
    caller.sidecar.records_with(1, &fields).await;
}

#[tokio::test]
async fn with_too_few_endpoints_left_all_are_asked() {
    let bad = Wild::http1(|_| Act::Answer(500)).await;
    let policy = "{outlierDetection: {consecutive5xxErrors: 1, baseEjectionTime: 3s, minHealthPercent: 50}}";
    let caller = Caller::of(&[bad.address()], "HTTP", &rule(policy)).await;
    for n in 0..5 {
        let answer = caller.call("POST", &n.to_string(), "").await;
        assert_eq!(answer.status, 500, "the answer, and not a refusal");
    }
    assert_eq!(bad.delivered().len(), 5);
    assert_eq!(upstream(&caller).await["panic"], true);
    until("the end of it to be told", || async {
        let log = caller.sidecar.process.log();
        if log.contains("panic ends") { Ok(()) } else { Err(log) }
    })
    .await;
    let log = caller.sidecar.process.log();
    let told = |what: &str| log.lines().filter(|line| line.contains(what)).count();
    assert_eq!((told("panic begins"), told("panic ends")), (1, 1), "{log}");
    assert_eq!(upstream(&caller).await["panic"], false);
}

#[tokio::test]
async fn our_own_refusals_leave_nobody_out() {
    let bank = Wild::http1(|_| Act::Stall).await;
    let policy =
        "{connectionPool: {http: {http2MaxRequests: 1}}, outlierDetection: {consecutive5xxErrors: 1}}";
    let caller = Caller::with(&[bank.address()], "HTTP", &rule(policy), 1).await;
    let proxy = caller.sidecar.http_proxy();
    let stalled = tokio::spawn(async move { client::try_send(proxy, request("POST", "first", "")).await });
    until("the first request to be there", || async {
        if bank.delivered().len() == 1 { Ok(()) } else { Err(bank.delivered()) }
    })
    .await;
    for n in 0..5 {
        let answer = caller.call("GET", &n.to_string(), "").await;
        assert_eq!(answer.status, 503, "over the bound: at once, and not queued");
    }
    assert_eq!(bank.delivered().len(), 1);
    let fields = [("response_flags", json!("UO")), ("reason", json!("upstream_overflow"))];
    caller.sidecar.records_with(5, &fields).await;
    let page = upstream(&caller).await;
    assert_eq!((&page["requests"], &page["endpoints"][0]["state"]), (&json!(1), &json!("healthy")));
    stalled.abort();
    until("the place to be free again", || async {
        let page = upstream(&caller).await;
        if page["requests"] == 0 { Ok(()) } else { Err(page) }
    })
    .await;
}

#[tokio::test]
async fn requests_wait_for_a_connection_up_to_a_bound_and_no_longer() {
    let bank = Wild::http1(|_| Act::Late(500)).await;
    let policy = "{connectionPool: {tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 2}}}";
    let caller = Caller::with(&[bank.address()], "HTTP", &rule(policy), 1).await;
    let proxy = caller.sidecar.http_proxy();
    let first = tokio::spawn(async move { client::send(proxy, request("POST", "first", "")).await.status });
    until("the first request to be there", || async {
        if bank.delivered().len() == 1 { Ok(()) } else { Err(bank.delivered()) }
    })
    .await;
    let each: Vec<_> = (0..5)
        .map(|n| {
            tokio::spawn(async move { client::send(proxy, request("POST", &n.to_string(), "")).await.status })
        })
        .collect();
    let mut statuses = vec![first.await.unwrap().as_u16()];
    for task in each {
        statuses.push(task.await.unwrap().as_u16());
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 200, 503, 503, 503], "one under way, two wait, and the rest is refused");
    assert_eq!(bank.by_id().values().copied().collect::<Vec<_>>(), [1, 1, 1]);
    let bound = ["bound=\"pending\""];
    assert_eq!(caller.sidecar.metric("palisade_upstream_overflow_total", &bound).await, 3.0);
}

#[tokio::test]
async fn a_connection_ends_after_as_many_requests_as_it_may_have() {
    let bank = Wild::http1(|_| Act::Answer(200)).await;
    let policy = "{connectionPool: {http: {maxRequestsPerConnection: 2}}}";
    let caller = Caller::with(&[bank.address()], "HTTP", &rule(policy), 1).await;
    for n in 0..6 {
        assert_eq!(caller.call("POST", &n.to_string(), "").await.status, 200);
    }
    assert_eq!(caller.sidecar.metric("palisade_upstream_connections_total", &[]).await, 3.0);
}

#[tokio::test]
async fn a_key_comes_to_the_same_endpoint_every_time() {
    let banks = [
        Wild::http1(|_| Act::Answer(200)).await,
        Wild::http1(|_| Act::Answer(200)).await,
        Wild::http1(|_| Act::Answer(200)).await,
    ];
    let policy = "{loadBalancer: {consistentHash: {httpHeaderName: x-id}}}";
    let caller = Caller::of(&banks.each_ref().map(Wild::address), "HTTP", &rule(policy)).await;
    for _ in 0..3 {
        for id in 0..20 {
            assert_eq!(caller.call("GET", &id.to_string(), "").await.status, 200);
        }
    }
    let counts: Vec<_> = banks.iter().map(Wild::by_id).collect();
    assert!(counts.iter().all(|by_id| by_id.values().all(|count| *count == 3)), "{counts:?}");
    assert!(counts.iter().all(|by_id| !by_id.is_empty()), "twenty keys meet three endpoints: {counts:?}");
}

#[tokio::test]
async fn an_endpoint_that_slows_down_gets_less() {
    let slow = Wild::http1(|_| Act::Late(60)).await;
    let fast = Wild::http1(|_| Act::Answer(200)).await;
    let caller = Caller::of(&[slow.address(), fast.address()], "HTTP", "").await;
    for n in 0..60 {
        assert_eq!(caller.call("GET", &n.to_string(), "").await.status, 200);
    }
    let (slow, fast) = (slow.delivered().len(), fast.delivered().len());
    assert!(slow < 20 && fast > 40, "{slow} to {fast}");
}
