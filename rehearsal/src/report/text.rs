//! The report for a terminal.

use std::fmt::Write as _;

use super::{Report, StepReport, Verdict};
use crate::judge::shown;

impl Verdict {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Held => "HELD",
            Self::Broken => "DID NOT HOLD",
            Self::Aborted => "ABORTED",
            Self::Interrupted => "INTERRUPTED",
            Self::Failed => "FAILED",
            Self::NotBegun => "NOT BEGUN",
        }
    }
}

/// A line for each step, below it what did not hold; then how it ended.
pub fn text(report: &Report) -> String {
    let mut out = String::new();
    if let Some(steady) = &report.steady {
        let _infallible = writeln!(out, "steady  {}", steady.line());
    }
    for step in &report.steps {
        of_step(&mut out, step);
    }
    for name in &report.not_played {
        let _infallible = writeln!(out, "-       {name}: not played");
    }
    if let Some(late) = report.generator_late.filter(|late| late.as_millis() >= 100) {
        let _infallible = writeln!(
            out,
            "note    requests were sent up to {} late: this host had no time; latencies hold that",
            shown(late)
        );
    }
    let _infallible = write!(out, "{} {}", report.verdict.name(), report.rehearsal);
    if !report.why.is_empty() {
        let _infallible = write!(out, ": {}", report.why.join("; "));
    }
    out
}

fn of_step(out: &mut String, step: &StepReport) {
    let _infallible = writeln!(out, "{:<7} {}", step.word(), step.line());
    for breach in &step.breaches {
        let _infallible = writeln!(out, "        ! {breach}");
    }
    if let Some(opened) = &step.opened {
        let what = &opened.what;
        let _infallible =
            writeln!(out, "        breaker: {} at {}, {}", what.cluster, what.proxy, what.cause);
    }
    let failures = step.window.as_ref().map(|window| window.failures_line()).unwrap_or_default();
    if !failures.is_empty() {
        let _infallible = writeln!(out, "        failed: {failures}");
    }
}
