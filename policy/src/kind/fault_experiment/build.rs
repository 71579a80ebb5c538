//! What a FaultExperiment must be beside well-formed, made ready. YAML and wire come through here alike.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::{ExperimentItem, FaultExperimentSpec, faults};
use crate::document::duration::write;
use crate::experiment::{Experiment, Item, Matches};
use crate::finding::code;
use crate::finding::problem::Problems;
use crate::kind::request_match::{Effect, MatchItem, RequestMatch};
use crate::kind::service_entry::valid_host;
use crate::kind::virtual_service::is_of_proxy;
use crate::kind::{Meta, principals};
use crate::set::ROOT_NAMESPACE;

/// The mesh may allow less.
pub(crate) const DURATION: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(24 * 3600);
const MAX_ACTIVE: RangeInclusive<u32> = 1..=10_000;
const MAX_ACTIVE_DEFAULT: u32 = 100;
/// Whoever may read policy would read what opens doors.
const CREDENTIALS: [&str; 3] = ["authorization", "cookie", "proxy-authorization"];

/// Compiles an experiment. What does not fit is reported.
pub(crate) fn build(meta: &Meta, spec: &FaultExperimentSpec, problems: &mut Problems) -> Experiment {
    check_callers(meta, spec, problems);
    check_hosts(spec, problems);
    check_range("duration", write(spec.duration), DURATION.contains(&spec.duration), bounds(), problems);
    let faults::Built { delay, harm, pace } = faults::build(&spec.fault, problems);
    let items = spec.matches.iter().enumerate();
    let items = items.map(|(i, item)| build_item(item, &format!("spec.match[{i}]"), problems));
    let items = items.collect();
    Experiment {
        id: format!("{}/{}", meta.namespace, meta.name).into(),
        starts_at: spec.starts_at,
        duration: spec.duration,
        share_ppm: spec.share_ppm,
        max_active: max_active(spec, problems),
        delay,
        harm,
        pace,
        matches: Matches { items },
    }
}

fn check_callers(meta: &Meta, spec: &FaultExperimentSpec, problems: &mut Problems) {
    if spec.callers.is_empty() {
        problems.error(code::EXPERIMENT_EMPTY, "spec.callers", "the experiment is for nobody's calls");
        problems.help("name the workloads whose calls are meant: <trust-domain>/ns/<namespace>/sa/<account>");
    }
    principals::check(&spec.callers, "spec.callers", problems);
    for (i, caller) in spec.callers.iter().enumerate() {
        let elsewhere = principals::namespace_of(caller).filter(|namespace| *namespace != meta.namespace);
        if let Some(namespace) = elsewhere.filter(|_| meta.namespace != ROOT_NAMESPACE) {
            let own = &meta.namespace;
            let message = format!("{caller:?} is of the namespace {namespace:?}, the experiment of {own:?}");
            problems.error(code::EXPERIMENT_CALLER, format!("spec.callers[{i}]"), message);
            problems.help(format!("move the experiment to {namespace:?}, or to {ROOT_NAMESPACE:?}"));
        }
    }
}

fn check_hosts(spec: &FaultExperimentSpec, problems: &mut Problems) {
    if spec.hosts.is_empty() {
        problems.error(code::EXPERIMENT_EMPTY, "spec.hosts", "the experiment is for calls to nobody");
        problems.help("name the services that are called");
    }
    for (i, host) in spec.hosts.iter().enumerate().filter(|(_, host)| !valid_host(host)) {
        problems.error(code::BAD_HOST, format!("spec.hosts[{i}]"), format!("{host:?} is no host name"));
        problems.help("write hosts in lower case, without wildcard, port and trailing dot");
    }
}

fn bounds() -> (String, String) {
    (write(*DURATION.start()), write(*DURATION.end()))
}

fn check_range(
    field: &str,
    value: String,
    fits: bool,
    (start, end): (String, String),
    problems: &mut Problems,
) {
    if !fits {
        let message = format!("{value} is not within {start} and {end}");
        problems.error(code::EXPERIMENT_RANGE, format!("spec.{field}"), message);
    }
}

fn max_active(spec: &FaultExperimentSpec, problems: &mut Problems) -> u32 {
    let Some(written) = spec.max_active else { return MAX_ACTIVE_DEFAULT };
    let number = u32::try_from(written).ok().filter(|number| MAX_ACTIVE.contains(number));
    let bounds = (MAX_ACTIVE.start().to_string(), MAX_ACTIVE.end().to_string());
    check_range("maxActive", written.to_string(), number.is_some(), bounds, problems);
    number.unwrap_or(MAX_ACTIVE_DEFAULT)
}

fn build_item(spec: &ExperimentItem, path: &str, problems: &mut Problems) -> Item {
    let ExperimentItem { request, headers } = spec;
    if !request.hosts.is_empty() {
        let message = "hosts are not for a match: spec.hosts says which services are called";
        problems.error(code::EXPERIMENT_MATCH, format!("{path}.hosts"), message);
        problems.help("match by methods, paths, routes and headers");
    }
    // One with headers alone is for every request that has them.
    let anything = *request == MatchItem::default() && !headers.is_empty();
    let request = match anything {
        true => RequestMatch::default(),
        false => RequestMatch::of_one(request, Effect::Restricts, path, problems),
    };
    Item { request, headers: build_headers(headers, &format!("{path}.headers"), problems) }
}

fn build_headers(
    written: &BTreeMap<String, String>,
    path: &str,
    problems: &mut Problems,
) -> Box<[(HeaderName, HeaderValue)]> {
    let mut headers: Vec<(HeaderName, HeaderValue)> = Vec::with_capacity(written.len());
    for (name, value) in written {
        let path = format!("{path}.{name}");
        let Some(parsed) = header_name(name, &path, problems) else { continue };
        if headers.iter().any(|(other, _)| *other == parsed) {
            problems.error(code::EXPERIMENT_MATCH, &path, format!("the header {parsed} is there twice"));
            problems.help("write one of the two; case makes no difference");
        }
        match HeaderValue::from_str(value) {
            // No client sends white space around a value so that it arrives.
            Ok(parsed_value) if !value.is_empty() && value.trim() == value => {
                headers.push((parsed, parsed_value));
            }
            _ => {
                problems.error(
                    code::EXPERIMENT_MATCH,
                    &path,
                    format!("{value:?} is no value that a header has"),
                );
                problems.help("write the exact value: visible ASCII, and spaces between");
            }
        }
    }
    headers.into()
}

fn header_name(name: &str, path: &str, problems: &mut Problems) -> Option<HeaderName> {
    let Ok(header) = HeaderName::from_bytes(name.as_bytes()) else {
        problems.error(code::EXPERIMENT_MATCH, path, format!("{name:?} is no name of a header"));
        problems.help("for example x-fault-test");
        return None;
    };
    let folded = header.as_str().replace('_', "-");
    let help = if CREDENTIALS.contains(&&*folded) {
        "a document is no place for a credential; agree on a header of your own, x-fault-test"
    } else if is_of_proxy(&folded, false).is_some() {
        "the proxy writes or removes it; agree on a header of your own, x-fault-test"
    } else {
        return Some(header);
    };
    problems.error(code::EXPERIMENT_MATCH, path, format!("{name:?} is not for experiments to go by"));
    problems.help(help);
    None
}
