//! What a RetryPolicy must be beside well-formed, and its rules made ready. YAML and wire come through here alike.

use std::ops::RangeInclusive;
use std::time::Duration;

use http::HeaderName;

use super::repeats::{Duplicates, Reason, Repeats, Rule};
use super::{Because, DuplicatesSpec, RepeatRuleSpec, RetryPolicySpec};
use crate::finding::code;
use crate::finding::problem::Problems;
use crate::kind::Meta;
use crate::kind::request_match::{Effect, RequestMatch};
use crate::kind::service_entry::valid_host;
use crate::kind::virtual_service::is_of_proxy;

/// Callers that come again do so within a day.
const WINDOW: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(24 * 3600);
/// At about 150 bytes each: 150 kB to 150 MB.
const MAX_KEYS: RangeInclusive<u64> = 1_000..=1_000_000;
/// They are there in requests that have nothing to do with each other.
const NO_KEYS: [&str; 4] = ["authorization", "cookie", "traceparent", "x-request-id"];

/// Compiles the rules. What does not fit is reported.
pub(crate) fn build(meta: &Meta, spec: &RetryPolicySpec, problems: &mut Problems) -> Repeats {
    if !valid_host(&spec.host) {
        problems.error(code::BAD_HOST, "spec.host", format!("{:?} is no host name", spec.host));
        problems.help("write one host in lower case, without wildcard, port and trailing dot");
    }
    if spec.rules.is_empty() && spec.duplicates.is_none() {
        problems.error(code::RETRY_EMPTY, "spec", "the policy says nothing");
        problems.help("write at least one rule, or duplicates: {}");
    }
    let rules = spec.rules.iter().enumerate();
    let rules = rules.filter_map(|(i, rule)| build_rule(rule, &format!("spec.rules[{i}]"), problems));
    Repeats {
        name: format!("{}/{}", meta.namespace, meta.name).into(),
        rules: rules.collect(),
        duplicates: spec.duplicates.as_ref().map(|duplicates| build_duplicates(duplicates, problems)),
    }
}

fn build_rule(spec: &RepeatRuleSpec, path: &str, problems: &mut Problems) -> Option<Rule> {
    for (i, item) in spec.matches.iter().enumerate() {
        for (field, values) in [("hosts", &item.hosts), ("routes", &item.routes)] {
            if !values.is_empty() {
                let path = format!("{path}.match[{i}].{field}");
                let message =
                    format!("{field} are not for a RetryPolicy: its host says which service is called");
                problems.error(code::RETRY_RULE, path, message);
                problems.help("match by methods and paths");
            }
        }
    }
    let matches = RequestMatch::new(&spec.matches, Effect::Opens, &format!("{path}.match"), problems);
    let reason = match &spec.because {
        Because::Idempotent => Reason::Idempotent,
        Because::Key(name) => Reason::Key(key_header(name, &format!("{path}.idempotencyKey"), problems)?),
    };
    Some(Rule { matches, reason })
}

fn key_header(name: &str, path: &str, problems: &mut Problems) -> Option<HeaderName> {
    let Ok(header) = HeaderName::from_bytes(name.as_bytes()) else {
        problems.error(code::RETRY_KEY, path, format!("{name:?} is no name of a header"));
        problems.help("for example Idempotency-Key");
        return None;
    };
    let folded = header.as_str().replace('_', "-");
    if NO_KEYS.contains(&&*folded) || is_of_proxy(&folded, false).is_some() {
        problems.error(code::RETRY_KEY, path, format!("{name:?} does not tell one request from another"));
        problems
            .help("name the header in which callers send one key for each thing to be done, Idempotency-Key");
        return None;
    }
    Some(header)
}

fn build_duplicates(spec: &DuplicatesSpec, problems: &mut Problems) -> Duplicates {
    let mut refuse = |field: &str, message: String| {
        problems.error(code::RETRY_RANGE, format!("spec.duplicates.{field}"), message);
    };
    if let Some(window) = spec.window.filter(|window| !WINDOW.contains(window)) {
        refuse("window", format!("{window:?} is not within {:?} and {:?}", WINDOW.start(), WINDOW.end()));
    }
    if let Some(keys) = spec.max_keys.filter(|keys| !MAX_KEYS.contains(keys)) {
        refuse("maxKeys", format!("{keys} is not within {} and {}", MAX_KEYS.start(), MAX_KEYS.end()));
    }
    let defaults = Duplicates::default();
    Duplicates {
        window: spec.window.unwrap_or(defaults.window),
        max_keys: spec.max_keys.and_then(|keys| usize::try_from(keys).ok()).unwrap_or(defaults.max_keys),
        on_duplicate: spec.on_duplicate,
    }
}
