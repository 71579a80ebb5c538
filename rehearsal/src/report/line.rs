//! One line for a window of requests, and one for a step.

use super::StepReport;
use crate::judge::{Breach, duplicates, percent, retries, shown};
use crate::sample::Window;

impl Window {
    /// `99.5 % of 200 requests succeeded, p50 2.1 ms, p99 8.4 ms`.
    pub fn line(&self) -> String {
        let Some(ppm) = self.success_ppm() else { return "no requests".to_owned() };
        let percentile = |name, value: Option<_>| {
            value.map_or(String::new(), |value| format!(", {name} {}", shown(value)))
        };
        format!(
            "{} of {} requests succeeded{}{}",
            percent(ppm),
            self.requests(),
            percentile("p50", self.p50),
            percentile("p99", self.p99),
        )
    }

    /// How the others ended: `503: 12, timed out: 3`. Empty: there were none.
    pub fn failures_line(&self) -> String {
        let each = self.failures.iter().map(|(how, count)| format!("{how}: {count}"));
        each.collect::<Vec<_>>().join(", ")
    }
}

impl StepReport {
    /// With its name: `ledger +2 s: 0 duplicate deliveries, breaker open after 1.3 s, recovered 4 s after; ...`.
    pub fn line(&self) -> String {
        format!("{}: {}", self.name, self.facts())
    }

    pub(super) fn facts(&self) -> String {
        let mut facts = Vec::new();
        let counts = self.counts();
        let unknown = || "duplicate deliveries not known".to_owned();
        facts.push(counts.map_or_else(unknown, |counts| duplicates(counts.duplicate_deliveries)));
        facts
            .extend(self.opened.as_ref().map(|opened| format!("breaker open after {}", shown(opened.after))));
        facts.push(match self.recovered_after {
            Some(after) if after.is_zero() => "recovered at once".to_owned(),
            Some(after) => format!("recovered {} after", shown(after)),
            None if self.breaches.iter().any(|breach| matches!(breach, Breach::NotRecovered { .. })) => {
                "not recovered".to_owned()
            }
            None => "ended before it could recover".to_owned(),
        });
        facts.extend(counts.filter(|counts| counts.retries > 0).map(|counts| retries(counts.retries)));
        facts.extend(self.injected.map(|injected| format!("injected {injected} times")));
        let window = self.window.as_ref().map(Window::line).unwrap_or_default();
        format!("{}; {window}", facts.join(", "))
    }
}
