//! The retry budget: an outage is not made worse by everybody asking again at once.

use std::collections::BTreeSet;
use std::sync::Mutex;

use palisade_tests::Wild;
use palisade_tests::wild::{Act, Delivery};
use tokio::task::JoinSet;

use crate::kit::{Caller, request};

const REFUSED_STREAM: u32 = 7;
const CALLS: usize = 40;

/// Refuses everything once, and takes its time over what comes again: until then it counts as tried again.
fn refuses_once() -> impl Fn(&Delivery) -> Act + Send + Sync + 'static {
    let seen = Mutex::new(BTreeSet::new());
    move |delivery| {
        let is_new = seen.lock().unwrap().insert(delivery.body.clone());
        if is_new { Act::ResetStream(REFUSED_STREAM) } else { Act::Late(3000) }
    }
}

/// Calls at once, which a bank refuses. How many were answered, and how many it was asked again.
async fn calls_at_once(documents: &str) -> (Caller, usize, usize) {
    let bank = Wild::http2(refuses_once()).await;
    let caller = Caller::of(&[bank.address()], "HTTP2", documents).await;
    let mut calls = JoinSet::new();
    for n in 0..CALLS {
        let (proxy, id) = (caller.sidecar.http_proxy(), n.to_string());
        calls.spawn(async move {
            palisade_tests::client::send(proxy, request("POST", &id, &id)).await.status.as_u16()
        });
    }
    let statuses = calls.join_all().await;
    assert!(statuses.iter().all(|status| [200, 502].contains(status)), "{statuses:?}");
    let answered = statuses.iter().filter(|status| **status == 200).count();
    let again = bank.delivered().len() - CALLS;
    (caller, answered, again)
}

async fn not_tried_again(caller: &Caller) -> f64 {
    caller.sidecar.metric("palisade_upstream_overflow_total", &["bound=\"retries\""]).await
}

#[tokio::test]
async fn without_a_rule_a_fifth_of_what_is_under_way_is_tried_again_at_once_and_no_more() {
    let (caller, answered, again) = calls_at_once("").await;
    assert!((3..=CALLS / 5).contains(&again), "{again} were tried again");
    assert_eq!((answered, not_tried_again(&caller).await), (again, (CALLS - again) as f64));
}

#[tokio::test]
async fn with_a_budget_of_all_that_is_under_way_all_of_it_is_tried_again() {
    let rule = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: bank, namespace: payments}
spec: {host: bank.example, trafficPolicy: {retryBudget: {percent: 100}}}
";
    let (caller, answered, again) = calls_at_once(rule).await;
    assert_eq!((answered, again, not_tried_again(&caller).await), (CALLS, CALLS, 0.0));
}

#[tokio::test]
async fn a_few_are_tried_again_at_once_however_little_is_under_way() {
    let rule = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: bank, namespace: payments}
spec: {host: bank.example, trafficPolicy: {retryBudget: {percent: 0, minRetryConcurrency: 2}}}
";
    let (caller, answered, again) = calls_at_once(rule).await;
    assert_eq!((answered, again, not_tried_again(&caller).await), (2, 2, (CALLS - 2) as f64));
}
