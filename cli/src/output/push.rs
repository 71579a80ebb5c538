//! What became of a change at the proxies.

use std::fmt::Write as _;

use palisade_proto::v1::PushResult;
use palisade_proto::v1::push_result::Outcome;
use serde_json::json;

use super::{Shown, or_dash, table};

/// Whether every connected proxy took the change.
pub(crate) fn all_acked(pushes: &[PushResult]) -> bool {
    pushes.iter().all(|p| p.outcome() == Outcome::Acked)
}

/// One line; and a table of the proxies that did not take it.
pub(crate) fn describe(pushes: &[PushResult]) -> String {
    let acked: Vec<&PushResult> = pushes.iter().filter(|p| p.outcome() == Outcome::Acked).collect();
    let mut text = format!("in force on {} of {} connected proxies", acked.len(), pushes.len());
    if let Some(slowest) = acked.iter().map(|p| p.latency_us).max() {
        let _ok = write!(text, ", the last after {}", millis(slowest));
    }
    let rows: Vec<[String; 4]> = pushes.iter().filter(|p| p.outcome() != Outcome::Acked).map(row).collect();
    if !rows.is_empty() {
        let _ok = write!(text, "\n\n{}", table(["INSTANCE", "IDENTITY", "OUTCOME", "WHY"], rows));
    }
    text
}

fn row(push: &PushResult) -> [String; 4] {
    let why: Vec<&str> = push.findings.iter().map(|f| f.message.as_str()).collect();
    let outcome = outcome_name(push.outcome()).to_owned();
    [push.instance_id.clone(), push.spiffe_id.clone(), outcome, or_dash(why.join("; "))]
}

pub(crate) fn to_json(push: &PushResult) -> serde_json::Value {
    json!({
        "instance_id": push.instance_id,
        "spiffe_id": push.spiffe_id,
        "outcome": outcome_name(push.outcome()),
        "latency_us": push.latency_us,
        "findings": push.findings.iter().map(Shown::from).collect::<Vec<_>>(),
    })
}

fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Unspecified => "unknown",
        Outcome::Acked => "acked",
        Outcome::Nacked => "nacked",
        Outcome::Timeout => "timeout",
    }
}

fn millis(microseconds: u64) -> String {
    format!("{}.{} ms", microseconds / 1000, microseconds % 1000 / 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(instance: &str, outcome: Outcome, latency_us: u64) -> PushResult {
        PushResult {
            instance_id: instance.into(),
            outcome: outcome.into(),
            latency_us,
            ..PushResult::default()
        }
    }

    #[test]
    fn names_the_slowest_of_those_that_took_it() {
        let pushes = [push("a", Outcome::Acked, 900), push("b", Outcome::Acked, 12_345)];
        assert!(all_acked(&pushes));
        assert_eq!(describe(&pushes), "in force on 2 of 2 connected proxies, the last after 12.3 ms");
        assert_eq!(describe(&[]), "in force on 0 of 0 connected proxies");
    }

    #[test]
    fn lists_those_that_did_not() {
        let pushes = [push("a", Outcome::Acked, 900), push("b", Outcome::Nacked, 5)];
        assert!(!all_acked(&pushes));
        let text = describe(&pushes);
        assert!(text.starts_with("in force on 1 of 2") && text.contains("nacked"), "{text}");
    }
}
