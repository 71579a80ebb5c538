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
    for (i, _) in rehearsal.steps.iter().enumerate().filter(|(_, step)| step.fault.is_some()) {
        let path = format!("spec.steps[{i}].fault");
        if rehearsal.control_plane.is_none() {
            problems.error(code::REHEARSAL, &path, "nobody is named who has proxies inject it");
            problems.help("write controlPlane: {server: 127.0.0.1:15012, operatorDir: ...}");
        }
        if rehearsal.observed.is_empty() {
            problems.error(code::REHEARSAL, &path, "nobody would see whether it is injected");
            problems.help("write observe, with the proxies of the callers");
        }
    }
    if rehearsal.observed.is_empty() && rehearsal.asks_proxies() {
        let message =
            "duplicate deliveries, retries and breakers are known to proxies, and no proxy is observed";
        problems.error(code::REHEARSAL, "spec", message);
        problems.help("write observe: {ledger: 127.0.0.1:15000}, the admin listeners of both sides");
    }
}
