//! `retries` and `fault` of a route: what they become, and what is refused.

use std::time::Duration;

use palisade_policy::fault::{Abort, AbortAnswer, Delay, Fault};
use palisade_policy::traffic::{Retries, RetryOn};

use super::support::findings;
use super::{edge_with, get, routes};

const TO: &str = "route: [{destination: {host: accounts}}]";

fn retries(written: &str) -> Option<Retries> {
    let snapshot = edge_with(&format!("{{retries: {written}, {TO}}}"));
    get("/").route(&snapshot).unwrap().retries.as_deref().cloned()
}

fn fault(written: &str) -> Option<Fault> {
    let snapshot = edge_with(&format!("{{name: r, fault: {written}, {TO}}}"));
    get("/").route(&snapshot).unwrap().fault.as_deref().cloned()
}

/// The code of each finding, and its help.
fn said(field: &str) -> Vec<(&'static str, String)> {
    let text = super::GATEWAY.to_owned() + &routes(&format!("{{{field}, {TO}}}"));
    findings(&text).0.into_iter().map(|f| (f.code, f.help.unwrap_or_default())).collect()
}

#[test]
fn retries_keep_what_is_written_and_have_a_default_for_the_rest() {
    assert_eq!(retries("{attempts: 2}"), Some(Retries::default()));
    let written =
        "{attempts: 5, perTryTimeout: 300ms, retryOn: '5xx', backoff: 10ms, retryIgnorePreviousHosts: false}";
    let all = Retries {
        attempts: 5,
        per_try_timeout: Some(Duration::from_millis(300)),
        on: RetryOn { five_xx: true, ..RetryOn::default() },
        backoff: Duration::from_millis(10),
        ignore_previous_hosts: false,
    };
    assert_eq!(retries(written), Some(all));
    assert_eq!(retries("{attempts: 0}").unwrap().attempts, 0);
    let none = edge_with(&format!("{{{TO}}}"));
    assert!(get("/").route(&none).unwrap().retries.is_none());
}

#[test]
fn every_word_of_envoys_is_taken_or_refused_with_a_reason() {
    let on = |set: fn(&mut RetryOn)| {
        let mut on = RetryOn::default();
        set(&mut on);
        Some(on)
    };
    let rows = [
        ("connect-failure", on(|o| o.connect_failure = true)),
        ("reset-before-request", on(|o| o.connect_failure = true)),
        ("refused-stream", on(|o| o.refused_stream = true)),
        ("reset", on(|o| o.reset = true)),
        ("5xx", on(|o| o.five_xx = true)),
        ("gateway-error", on(|o| o.gateway_error = true)),
        ("retriable-4xx", on(|o| o.retriable_4xx = true)),
        ("503", on(|o| o.statuses = vec![503])),
        ("503, 429,retriable-status-codes,503", on(|o| o.statuses = vec![429, 503])),
        (
            "unavailable,cancelled,deadline-exceeded,internal,resource-exhausted",
            on(|o| o.grpc = vec![1, 4, 8, 13, 14]),
        ),
        ("retriable-status-codes", None),
        ("retriable-headers", None),
        ("envoy-ratelimited", None),
        ("http3-post-connect-failure", None),
        ("200", None),
        ("5XX", None),
        ("gatway-error", None),
    ];
    for (words, expected) in rows {
        let written = format!("{{attempts: 1, retryOn: '{words}'}}");
        match expected {
            Some(on) => assert_eq!(retries(&written).unwrap().on, on, "{words}"),
            None => {
                let found = said(&format!("retries: {written}"));
                assert_eq!((found[0].0, found.len()), ("PAL1714", 1), "{words}: {found:?}");
                assert!(!found[0].1.is_empty(), "{words}");
            }
        }
    }
}

#[test]
fn retries_that_cannot_be_meant() {
    let rows = [
        ("{retryOn: 5xx}", "PAL0012"),
        ("{attempts: 21}", "PAL1709"),
        ("{attempts: 99999999999}", "PAL1709"),
        ("{attempts: -1}", "PAL0018"),
        ("{attempts: 1, perTryTimeout: 0s}", "PAL1709"),
        ("{attempts: 1, perTryTimeout: 2h}", "PAL1709"),
        ("{attempts: 1, backoff: 0s}", "PAL1709"),
        ("{attempts: 1, backoff: 2m}", "PAL1709"),
        ("{attempts: 0, retryOn: 5xx}", "PAL1714"),
        ("{attempts: 1, retryRemoteLocalities: true}", "PAL0009"),
        ("{attempts: 1, perTryTimeout: 2s}, timeout: 1s", "PAL1714"),
        ("{attempts: 1, perTryTimeout: 1s}, timeout: 2s", ""),
    ];
    for (written, code) in rows {
        let found = said(&format!("retries: {written}"));
        assert_eq!(found.iter().map(|f| f.0).next().unwrap_or_default(), code, "{written}: {found:?}");
    }
}

#[test]
fn faults_keep_their_shares_to_a_millionth() {
    let delay = Delay { share_ppm: 1, length: Duration::from_millis(1500) };
    let id = "bank/v/r";
    let both = Fault {
        id: id.into(),
        delay: Some(delay),
        abort: Some(Abort { share_ppm: 1_000_000, answer: AbortAnswer::Http(503) }),
    };
    let written = "{delay: {percentage: {value: 0.0001}, fixedDelay: 1500ms}, \
                   abort: {percentage: {value: 100}, httpStatus: 503}}";
    assert_eq!(fault(written), Some(both));
    let grpc = fault("{abort: {percentage: {value: 50}, grpcStatus: UNAVAILABLE}}").unwrap();
    assert_eq!(grpc.abort.unwrap().answer, AbortAnswer::Grpc(14));
    assert_eq!(grpc.delay, None);
}

#[test]
fn faults_that_cannot_be_meant() {
    let rows = [
        ("{}", "PAL1715"),
        ("{delay: {fixedDelay: 1s}}", "PAL0012"),
        ("{delay: {percentage: {value: 1}}}", "PAL0012"),
        ("{delay: {percentage: {value: 101}, fixedDelay: 1s}}", "PAL1709"),
        ("{delay: {percentage: {value: 1}, fixedDelay: 11m}}", "PAL1709"),
        ("{delay: {percent: 10, fixedDelay: 1s}}", "PAL0012"),
        ("{delay: {percentage: {value: 1}, exponentialDelay: 1s}}", "PAL0012"),
        ("{abort: {percentage: {value: 1}}}", "PAL1715"),
        ("{abort: {percentage: {value: 1}, httpStatus: 503, grpcStatus: OK}}", "PAL1715"),
        ("{abort: {percentage: {value: 1}, httpStatus: 199}}", "PAL1709"),
        ("{abort: {percentage: {value: 1}, httpStatus: 600}}", "PAL1709"),
        ("{abort: {percentage: {value: 1}, grpcStatus: '14'}}", "PAL1715"),
        ("{abort: {percentage: {value: 1}, grpcStatus: Unavailable}}", "PAL1715"),
        ("{abort: {percentage: {value: 1}, http2Error: x}}", "PAL1715"),
        ("{abort: {httpStatus: 503}}", "PAL0012"),
    ];
    for (written, code) in rows {
        let found = said(&format!("fault: {written}"));
        assert_eq!(found.iter().map(|f| f.0).next().unwrap_or_default(), code, "{written}: {found:?}");
    }
    let refused = said("fault: {abort: {percentage: {value: 1}, percent: 10, httpStatus: 503}}");
    assert_eq!(refused[0].0, "PAL0009");
}
