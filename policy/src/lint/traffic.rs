//! Routes that do something to requests, or with them twice.

use super::Desk;
use super::edge::methods;
use super::pattern::Pattern;
use super::world::World;
use crate::finding::code;
use crate::finding::problem::Problems;
use crate::kind::virtual_service::retries::tries_what_may_be_done;
use crate::kind::virtual_service::{HttpMatch, HttpRoute};

/// Whoever sends one of these twice may do the thing twice (RFC 9110 section 9.2.2; RFC 5789 section 2).
const UNSAFE: [&str; 2] = ["POST", "PATCH"];

pub(super) fn check(world: &World<'_>, desk: &mut Desk) {
    for service in &world.services {
        for (number, route) in service.spec.http.iter().enumerate() {
            let path = format!("spec.http[{number}]");
            let problems = desk.about(service.index);
            faults(route, &path, problems);
            retries(route, &path, problems);
        }
    }
}

fn faults(route: &HttpRoute, path: &str, problems: &mut Problems) {
    let Some(fault) = &route.fault else { return };
    let shares = [fault.delay.as_ref().map(|d| d.share_ppm), fault.abort.as_ref().map(|a| a.share_ppm)];
    if shares.into_iter().flatten().any(|share| share > 0) {
        let message = "the fault goes on until somebody takes it out";
        problems.warning(code::FAULT_WITHOUT_END, format!("{path}.fault"), message);
        problems.help("take it out when the test is over; a FaultExperiment ends by itself");
    }
}

fn retries(route: &HttpRoute, path: &str, problems: &mut Problems) {
    let Some(retries) = route.retries.as_ref().filter(|retries| tries_what_may_be_done(retries)) else {
        return;
    };
    let anything = [HttpMatch::default()];
    let items = if route.matches.is_empty() { &anything[..] } else { &route.matches };
    let taken = |method: &str| {
        let exact = Pattern::exact(method);
        items.iter().flat_map(methods).any(|pattern| pattern.overlaps(&exact))
    };
    let Some(method) = UNSAFE.iter().find(|method| taken(method)) else { return };
    let attempts = retries.attempts;
    let message = format!("a {method} of this route is not tried again {attempts} times after every failure");
    problems.note(code::RETRY_OF_UNSAFE, format!("{path}.retries"), message);
    problems.help(
        "it is repeated only when it cannot have been processed, or with a RetryPolicy that names a key of idempotency",
    );
}
