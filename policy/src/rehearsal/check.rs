//! What a Rehearsal must be beside well-formed.

use std::time::Duration;

use super::{Rehearsal, Traffic};
use crate::finding::code;
use crate::finding::problem::Problems;

/// A rehearsal is watched by somebody.
const LENGTH_MAX: Duration = Duration::from_secs(3600);

pub(super) fn check(rehearsal: &Rehearsal, problems: &mut Problems) {
    let length = rehearsal.length_max();
    if length > LENGTH_MAX {
        let message = format!("with all that it may wait for, it takes {length:?}");
        problems.error(code::REHEARSAL, "spec.steps", message);
        problems
            .help(format!("at most {LENGTH_MAX:?}: shorten steps or recoverWithin, or write two rehearsals"));
    }
    match &rehearsal.traffic {
        Traffic::Load(load) => {
            let requests = u64::from(load.per_second).saturating_mul(length.as_secs().saturating_add(1));
            if requests > Rehearsal::REQUESTS_MAX {
                problems.error(
                    code::REHEARSAL,
                    "spec.load.ratePerSecond",
                    format!("{requests} requests in all"),
                );
                let most = Rehearsal::REQUESTS_MAX;
                problems.help(format!("at most {most}: lower the rate, or shorten the steps"));
            }
        }
        Traffic::Live(live) => {
            for (i, name) in live.proxies.iter().enumerate() {
                if !rehearsal.observed.iter().any(|proxy| proxy.name == *name) {
                    let path = format!("spec.live.proxies[{i}]");
                    problems.error(code::REHEARSAL, path, format!("there is no {name:?} in spec.observe"));
                    problems.help("give its admin listener there");
                }
            }
        }
    }
    if rehearsal.observed.is_empty() {
        let asks_breaker = rehearsal.steps.iter().any(|step| step.hold.breaker_within.is_some());
        if rehearsal.counts_duplicates() || asks_breaker {
            let message = "duplicate deliveries and breakers are asked for, and no proxy is observed";
            problems.error(code::REHEARSAL, "spec", message);
            problems.help("write observe: {ledger: 127.0.0.1:15000}, the admin listeners of both sides");
        }
    }
}
