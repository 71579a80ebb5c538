//! Connections to an upstream: how long one is waited for, and how long it is kept.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use palisade_tests::documents::service_entry;
use palisade_tests::wild::Act;
use palisade_tests::{Sidecar, Wild, World, client, until};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::PALISADE;
use crate::kit::Caller;
use crate::sidecars::OPEN;

fn rule(host: &str, traffic_policy: &str) -> String {
    format!(
        "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: pools, namespace: payments}}
spec: {{host: {host}, trafficPolicy: {{{traffic_policy}}}}}
"
    )
}

async fn connections(sidecar: &Sidecar) -> u64 {
    let page: Value = serde_json::from_str(&sidecar.admin("/upstreams").await.text()).unwrap();
    page[0]["connections"].as_u64().unwrap()
}

#[tokio::test]
async fn a_connection_without_a_request_is_kept_for_as_long_as_the_rule_says() {
    let bank = Wild::http1(|_| Act::Answer(200)).await;
    let [short, long] = ["300ms", "1h"].map(|idle| {
        let rule = rule("bank.example", &format!("connectionPool: {{http: {{idleTimeout: {idle}}}}}"));
        let address = bank.address();
        async move { Caller::with(&[address], "HTTP", &rule, 1).await }
    });
    let (short, long) = tokio::join!(short, long);
    for caller in [&short, &long] {
        assert_eq!(caller.call("GET", "1", "").await.status, 200);
    }
    until("the connection to be closed", || async {
        match connections(&short.sidecar).await {
            0 => Ok(()),
            open => Err(open),
        }
    })
    .await;
    assert_eq!(connections(&long.sidecar).await, 1);
    for (caller, made) in [(&short, 2.0), (&long, 1.0)] {
        assert_eq!(caller.call("GET", "2", "").await.status, 200);
        assert_eq!(caller.sidecar.metric("palisade_upstream_connections_total", &[]).await, made);
    }
    assert_eq!(bank.delivered().len(), 4);
}

#[tokio::test]
async fn a_host_that_takes_connections_and_says_nothing_is_given_up_in_the_time_of_the_rule() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let world = World::of_files(PALISADE);
    world.policy("open.yaml", OPEN);
    world.policy("ledger.yaml", &service_entry("ledger", silent.local_addr().unwrap(), "HTTP"));
    world.policy(
        "rule.yaml",
        &rule("ledger", "connectionPool: {tcp: {connectTimeout: 200ms}}, retryBudget: {minRetryConcurrency: 1, percent: 0}"),
    );
    let caller = world.file_sidecar("payments/web").outbound().start().await;
    let began = Instant::now();
    let answer = client::post(caller.http_proxy(), "http://ledger.payments:8080/transfers", "pay").await;
    let took = began.elapsed();
    assert_eq!(answer.status, 503);
    // One try and two more; the proxy's own limit is seconds for each.
    assert!(took >= Duration::from_millis(200) && took < Duration::from_secs(4), "{took:?}");
    caller.records_with(1, &[("response_flags", json!("UF"))]).await;
}

#[tokio::test]
async fn an_endpoint_that_becomes_slow_gets_less_and_its_share_again_when_it_is_fast() {
    let is_slow = Arc::new(AtomicBool::new(false));
    let slow = is_slow.clone();
    let first = Wild::http1(move |_| if slow.load(Ordering::SeqCst) { Act::Late(100) } else { Act::Late(5) });
    let (first, second) = (first.await, Wild::http1(|_| Act::Late(5)).await);
    let caller = Caller::with(&[first.address(), second.address()], "HTTP", "", 1).await;
    // How many of so many come to the first.
    let share = async |requests: usize| {
        let before = first.delivered().len();
        for _ in 0..requests {
            assert_eq!(caller.call("GET", "1", "").await.status, 200);
        }
        first.delivered().len() - before
    };
    assert!(share(60).await > 10, "both are as fast");
    is_slow.store(true, Ordering::SeqCst);
    share(20).await;
    let of_slow = share(60).await;
    assert!(of_slow < 15, "{of_slow} of 60");
    is_slow.store(false, Ordering::SeqCst);
    until("its share again", || async {
        match share(40).await {
            10.. => Ok(()),
            few => Err(few),
        }
    })
    .await;
}
