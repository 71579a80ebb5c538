//! Requests that must not be processed twice are not sent twice, whatever the upstream does.

use palisade_tests::client::{self, try_send};
use palisade_tests::documents::service_entry;
use palisade_tests::wild::Act;
use palisade_tests::{Wild, World};
use serde_json::json;

use crate::PALISADE;
use crate::kit::{Caller, nobody, request};
use crate::sidecars::OPEN;

const NO_ERROR: u32 = 0;
const REFUSED_STREAM: u32 = 7;
const INTERNAL_ERROR: u32 = 2;
const CANCEL: u32 = 8;

#[tokio::test]
async fn a_payment_is_delivered_once_whatever_its_server_does() {
    for act in [
        Act::Answer(500),
        Act::Answer(503),
        Act::Answer(409),
        Act::Reset,
        Act::ResetInBody,
        Act::Garbage,
        Act::Late(300),
    ] {
        let (one, two) = (Wild::http1(move |_| act).await, Wild::http1(move |_| act).await);
        let caller = Caller::of(&[one.address(), two.address()], "HTTP", "").await;
        for n in 0..3 {
            let payment = request("POST", &n.to_string(), "pay");
            let _answered_or_broken_off = try_send(caller.sidecar.http_proxy(), payment).await;
        }
        let count = one.delivered().len() + two.delivered().len();
        assert_eq!(count, 3, "{act:?}");
    }
}

#[tokio::test]
async fn a_payment_goes_to_another_endpoint_when_the_first_takes_no_connection() {
    let good = Wild::http1(|_| Act::Answer(200)).await;
    let caller = Caller::of(&[nobody(), good.address()], "HTTP", "").await;
    for n in 0..20 {
        assert_eq!(caller.call("POST", &n.to_string(), "pay").await.status, 200);
    }
    let delivered = good.delivered();
    assert_eq!(delivered.len(), 20);
    assert!(delivered.iter().all(|delivery| delivery.body == b"pay"));
    let tried_again = delivered.iter().filter(|delivery| delivery.attempt == 2).count();
    assert!(
        (1..20).contains(&tried_again),
        "the dead one is tried last after its first failure: {tried_again}"
    );
    let records = caller.sidecar.records_with(20, &[("response_code", json!(200))]).await;
    assert!(records.iter().any(|record| record["retry_count"] == 1), "{records:#?}");
}

#[tokio::test]
async fn a_stream_that_was_refused_is_sent_again_and_one_that_broke_is_not() {
    for (act, expected) in [
        (Act::ResetStream(REFUSED_STREAM), true),
        (Act::GoAwayBefore, true),
        (Act::GoAwayAfter, false),
        (Act::ResetStream(INTERNAL_ERROR), false),
        (Act::ResetStream(CANCEL), false),
        (Act::Reset, false),
        (Act::Answer(500), false),
    ] {
        let bad = Wild::http2(move |_| act).await;
        let good = Wild::http2(|_| Act::Answer(200)).await;
        let caller = Caller::of(&[bad.address(), good.address()], "HTTP2", "").await;
        let mut answers = Vec::new();
        for n in 0..8 {
            answers.push(caller.call("POST", &n.to_string(), "pay").await.status.as_u16());
        }
        let (failed, served) = (bad.delivered().len(), good.delivered().len());
        assert!(failed > 0, "{act:?}: nobody came to the bad one");
        if expected {
            assert_eq!((answers, served), (vec![200; 8], 8), "{act:?}");
            assert!(
                good.delivered().iter().all(|d| d.body == b"pay"),
                "{act:?}: the body is sent whole again"
            );
        } else {
            assert_eq!(failed + served, 8, "{act:?}: every payment was delivered once");
            assert_eq!(answers.iter().filter(|status| **status == 200).count(), served, "{act:?}");
        }
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_to_keep_is_not_sent_again() {
    let bad = Wild::http2(|_| Act::ResetStream(REFUSED_STREAM)).await;
    let caller = Caller::of(&[bad.address()], "HTTP2", "").await;
    let body = "x".repeat(65 * 1024);
    assert_eq!(caller.call("POST", "large", &body).await.status, 502);
    assert_eq!(bad.delivered().len(), 1);
    let small = caller.call("POST", "small", "pay").await;
    assert_eq!(small.status, 502);
    assert_eq!(bad.delivered().len(), 1 + 3, "the first try, and two more: Istio's default");
}

/// What came of it is not whole, and whoever asked is told so: by an answer of ours, or by one that breaks off.
#[tokio::test]
async fn an_answer_that_breaks_off_never_looks_whole_to_who_asked() {
    for (http2, act) in [
        (false, Act::ResetInBody),
        (false, Act::CloseInChunks),
        (true, Act::ResetInBody),
        (true, Act::ResetStreamInBody(NO_ERROR)),
        (true, Act::ResetStreamInBody(INTERNAL_ERROR)),
        (true, Act::ResetStreamInBody(CANCEL)),
    ] {
        let (bank, protocol) = match http2 {
            false => (Wild::http1(move |_| act).await, "HTTP"),
            true => (Wild::http2(move |_| act).await, "HTTP2"),
        };
        let caller = Caller::of(&[bank.address()], protocol, "").await;
        for method in ["POST", "GET"] {
            let answer = try_send(caller.sidecar.http_proxy(), request(method, method, "pay")).await;
            assert!(answer.is_err(), "{act:?} {method}: {answer:?}");
        }
        assert_eq!(bank.delivered().len(), 2, "{act:?}: what has begun to be answered is not asked again");
        let details = json!("upstream_reset_after_response_started");
        let fields = [("response_code", json!(200)), ("response_code_details", details)];
        for record in caller.sidecar.records_with(2, &fields).await {
            assert_eq!(
                (&record["decision"], &record["reason"], &record["bytes_sent"]),
                (&json!("failed"), &json!("upstream_reset"), &json!(2)),
                "{act:?}"
            );
        }
    }
}

/// The same where two sidecars are between them.
#[tokio::test]
async fn nor_does_one_that_breaks_off_at_another_sidecars_application() {
    for (http2, act) in
        [(false, Act::ResetInBody), (false, Act::CloseInChunks), (true, Act::ResetStreamInBody(NO_ERROR))]
    {
        let (app, protocol) = match http2 {
            false => (Wild::http1(move |_| act).await, "HTTP"),
            true => (Wild::http2(move |_| act).await, "HTTP2"),
        };
        let world = World::of_files(PALISADE);
        world.policy("open.yaml", OPEN);
        let ledger = world.file_sidecar("payments/ledger");
        let ledger = ledger.serve_as(8080, &protocol.to_lowercase(), app.address()).start().await;
        world.policy("ledger.yaml", &service_entry("ledger", ledger.inbound(8080), protocol));
        let web = world.file_sidecar("payments/web").outbound().start().await;
        for method in ["POST", "GET"] {
            let request = client::request(method, "http://ledger.payments:8080/transfers", "pay");
            let answer = try_send(web.http_proxy(), request).await;
            assert!(answer.is_err(), "{act:?} {method}: {answer:?}");
        }
        assert_eq!(app.delivered().len(), 2, "{act:?}");
        for sidecar in [&ledger, &web] {
            let fields = [("reason", json!("upstream_reset")), ("response_code", json!(200))];
            sidecar.records_with(2, &fields).await;
        }
    }
}

#[tokio::test]
async fn what_is_no_http_is_no_answer() {
    let banks = [
        ("HTTP", Wild::http1(|_| Act::Garbage).await, "upstream_malformed"),
        ("HTTP2", Wild::http2(|_| Act::Garbage).await, "upstream_reset"),
    ];
    for (protocol, bank, reason) in banks {
        let caller = Caller::of(&[bank.address()], protocol, "").await;
        let answer = caller.call("POST", "1", "pay").await;
        assert_eq!(answer.status, 502, "{protocol}");
        assert!(!answer.text().contains("garbage"), "{}", answer.text());
        caller.sidecar.records_with(1, &[("reason", json!(reason))]).await;
        assert_eq!(bank.delivered().len(), 1, "{protocol}");
    }
}
