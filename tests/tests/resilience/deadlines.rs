//! Work that nobody waits for is not begun.

use std::time::{SystemTime, UNIX_EPOCH};

use palisade_tests::Wild;
use palisade_tests::wild::Act;
use serde_json::json;

use crate::kit::{Caller, request};

fn in_millis(millis: i64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    (i64::try_from(now).unwrap() + millis).to_string()
}

#[tokio::test]
async fn a_call_whose_time_is_over_reaches_nobody() {
    let bank = Wild::http1(|_| Act::Answer(200)).await;
    let caller = Caller::of(&[bank.address()], "HTTP", "").await;
    let mut late = request("POST", "late", "pay");
    late.headers_mut().insert("x-palisade-deadline", in_millis(-1).parse().unwrap());
    assert_eq!(caller.send(late).await.status, 504);
    assert!(bank.delivered().is_empty());
    let fields = [("reason", json!("request_timeout")), ("response_flags", json!("UT"))];
    caller.sidecar.records_with(1, &fields).await;
}

#[tokio::test]
async fn a_call_ends_with_its_callers_deadline_and_is_not_made_again() {
    let bank = Wild::http1(|_| Act::Stall).await;
    let caller = Caller::of(&[bank.address()], "HTTP", "").await;
    for (method, millis) in [("POST", 300), ("GET", 300)] {
        let mut hurried = request(method, method, "");
        hurried.headers_mut().insert("x-palisade-deadline", in_millis(millis).parse().unwrap());
        let began = SystemTime::now();
        assert_eq!(caller.send(hurried).await.status, 504);
        assert!(began.elapsed().unwrap().as_secs() < 5, "the proxy's own limit is a minute");
    }
    assert_eq!(bank.delivered().len(), 2);
}
