//! Work that nobody waits for is not begun.

use std::time::{SystemTime, UNIX_EPOCH};

use palisade_tests::wild::{Act, Delivery};
use palisade_tests::{Wild, until};
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

/// What it says then is nobody's answer: not of the next call on that connection either.
#[tokio::test]
async fn an_answer_that_comes_after_the_deadline_is_nobodys() {
    for http2 in [false, true] {
        let script = |delivery: &Delivery| match delivery.body.as_slice() {
            b"late" => Act::Late(600),
            _ => Act::Answer(200),
        };
        let (bank, protocol) = match http2 {
            false => (Wild::http1(script).await, "HTTP"),
            true => (Wild::http2(script).await, "HTTP2"),
        };
        let caller = Caller::with(&[bank.address()], protocol, "", 1).await;
        // A connection that is kept: the next calls would be made on it.
        let is_own = async |id: &str| {
            let answer = caller.call("POST", id, id).await;
            assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, "ok"), "{protocol} {id}");
        };
        is_own("before").await;
        let mut hurried = request("POST", "late", "late");
        hurried.headers_mut().insert("x-palisade-deadline", in_millis(300).parse().unwrap());
        assert_eq!(caller.send(hurried).await.status, 504, "{protocol}");
        is_own("meanwhile").await;
        until("the late answer to be written", || async {
            if bank.late() == 1 { Ok(()) } else { Err(bank.delivered()) }
        })
        .await;
        is_own("after").await;
        let bodies: Vec<_> = bank.delivered().into_iter().map(|delivery| delivery.body).collect();
        assert_eq!(bodies, [&b"before"[..], b"late", b"meanwhile", b"after"], "{protocol}: each once");
        let fields = [("reason", json!("request_timeout")), ("response_flags", json!("UT"))];
        assert_eq!(caller.sidecar.records_with(1, &fields).await.len(), 1);
        assert_eq!(caller.sidecar.records_with(3, &[("response_code", json!(200))]).await.len(), 3);
    }
}
