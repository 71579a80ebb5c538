//! What came of tests, as text.

use std::fmt::Write as _;

use palisade_policy::policy_test::{CaseResult, Run};

use super::explain::{rule_name, why};
use super::{count, printable};

/// Requests of one case that are shown; a matrix that fails whole fails for one reason.
const SHOWN_MAX: usize = 10;

/// What failed, which rules no test exercises, and a count.
pub(crate) fn render(ran: &Run, is_covered: bool, least: Option<u8>) -> String {
    let mut text = String::new();
    for case in ran.cases.iter().filter(|case| !case.failures.is_empty()) {
        text.push_str(&failed(case));
        text.push('\n');
    }
    let coverage = &ran.coverage;
    if !coverage.unexercised.is_empty() {
        text.push_str("no test exercises\n");
        for rule in &coverage.unexercised {
            let _infallible = writeln!(text, "  {}", rule_name(rule));
        }
        text.push('\n');
    }
    let failed = ran.failed_cases();
    let outcome =
        if failed == 0 { "all as expected".to_owned() } else { format!("{} failed", count(failed, "case")) };
    let (cases, requests) = (count(ran.cases.len(), "case"), count(ran.requests, "request"));
    let percent = coverage.percent();
    let _infallible = write!(
        text,
        "{cases}, {requests}: {outcome}; {} of {} exercised ({percent} %)",
        coverage.exercised,
        count(coverage.rules, "rule")
    );
    if let Some(least) = least.filter(|_| !is_covered) {
        let _infallible = write!(text, ", less than {least} %");
    }
    printable(&text)
}

/// One case with every request that was judged otherwise, and why.
pub(crate) fn failed(case: &CaseResult) -> String {
    let mut text = format!("FAIL {}: {}\n", case.test, case.case);
    if let Some(position) = &case.position {
        let _infallible = writeln!(text, "  --> {position}");
    }
    for failure in case.failures.iter().take(SHOWN_MAX) {
        let _infallible =
            writeln!(text, "  {}: expected {}, got {}", failure.request, failure.expected, failure.got);
        let mut reason = format!("  why       {}\n", failure.explanation.why);
        why(&mut reason, &failure.explanation);
        for note in &failure.explanation.notes {
            let _infallible = writeln!(reason, "  note      {note}");
        }
        reason.lines().for_each(|line| {
            let _infallible = writeln!(text, "  {line}");
        });
    }
    if let Some(more) = case.failures.len().checked_sub(SHOWN_MAX).filter(|more| *more > 0) {
        let _infallible = writeln!(text, "  and {more} more");
    }
    text
}
