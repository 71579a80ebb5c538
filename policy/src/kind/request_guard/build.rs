//! What a RequestGuard must be beside well-formed, and its rules made ready. YAML and wire come through here alike.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::Arc;

use http::HeaderName;

use super::media::MediaRange;
use super::names::{HeaderNames, folded};
use super::rule::GuardRule;
use super::{GuardRuleSpec, RequestGuardSpec, Underscores};
use crate::decision::RuleRef;
use crate::finding::code;
use crate::finding::problem::{Problems, did_you_mean};
use crate::kind::Meta;
use crate::kind::request_match::{Effect, RequestMatch};
use crate::kind::virtual_service::is_of_proxy;

/// 0: no body. A tebibyte is more than anybody sends in one request.
const BODY_BYTES: RangeInclusive<u64> = 0..=1 << 40;
/// The upper ends are what the codecs take (proxy/src/settings/limits.rs): more would promise what is not so.
const HEADERS: RangeInclusive<u64> = 1..=100;
const HEADER_BYTES: RangeInclusive<u64> = 64..=64 * 1024;
const URI_BYTES: RangeInclusive<u64> = 1..=64 * 1024;

const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
/// <https://www.iana.org/assignments/media-types/>
const MAIN_TYPES: [&str; 11] = [
    "application",
    "audio",
    "example",
    "font",
    "haptics",
    "image",
    "message",
    "model",
    "multipart",
    "text",
    "video",
];

/// Compiles the rules. What does not fit is reported.
pub(crate) fn build(meta: &Meta, spec: &RequestGuardSpec, problems: &mut Problems) -> Vec<GuardRule> {
    if spec.rules.is_empty() {
        problems.error(code::GUARD_EMPTY, "spec.rules", "the guard asks nothing");
        problems.help("write at least one rule, or delete the guard");
    }
    let title: Arc<str> = format!("{}/{}", meta.namespace, meta.name).into();
    let mut names = BTreeSet::new();
    let mut rules = Vec::with_capacity(spec.rules.len());
    for (i, rule) in spec.rules.iter().enumerate() {
        let path = format!("spec.rules[{i}]");
        if !names.insert(&rule.name) {
            let message = format!("the name {:?} is taken", rule.name);
            problems.error(code::GUARD_RULE, format!("{path}.name"), message);
        }
        let name = RuleRef { namespace: (&*meta.namespace).into(), policy: (&*meta.name).into(), rule: i };
        rules.push(build_rule(name, title.clone(), rule, &path, problems));
    }
    rules
}

fn build_rule(
    name: RuleRef,
    title: Arc<str>,
    spec: &GuardRuleSpec,
    path: &str,
    problems: &mut Problems,
) -> GuardRule {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if spec.name.is_empty() || spec.name.len() > 63 || !spec.name.chars().all(plain) {
        let message = format!("{:?} is no name: letters, digits, '-', '_', '.', at most 63", spec.name);
        problems.error(code::BAD_NAME, format!("{path}.name"), message);
    }
    let asked =
        GuardRuleSpec { name: spec.name.clone(), matches: spec.matches.clone(), ..Default::default() };
    if *spec == asked {
        problems.error(code::GUARD_EMPTY, path, "the rule asks nothing");
        problems.help("write what requests must be: allowedMethods, contentTypes, maxBodyBytes, ...");
    }
    let ranges = [
        ("maxBodyBytes", spec.max_body_bytes, BODY_BYTES),
        ("maxHeaders", spec.max_headers, HEADERS),
        ("maxHeaderBytes", spec.max_header_bytes, HEADER_BYTES),
        ("maxUriBytes", spec.max_uri_bytes, URI_BYTES),
    ];
    for (field, value, range) in ranges {
        if let Some(value) = value.filter(|value| !range.contains(value)) {
            let message = format!("{value} is not within {} and {}", range.start(), range.end());
            problems.error(code::GUARD_RANGE, format!("{path}.{field}"), message);
        }
    }
    check_methods(spec, path, problems);
    let at = format!("{path}.match");
    let mut names = |field, names| header_names(names, &format!("{path}.{field}"), problems);
    let forbidden = names("forbidHeaders", &spec.forbid_headers);
    let stripped = names("stripHeaders", &spec.strip_headers);
    let once = once_names(&spec.forbid_duplicates, &format!("{path}.forbidDuplicates"), problems);
    GuardRule {
        name,
        title,
        types: content_types(&spec.content_types, &format!("{path}.contentTypes"), problems),
        matches: RequestMatch::new(&spec.matches, Effect::Restricts, &at, problems),
        // The problems are those of the line above.
        opens: RequestMatch::new(&spec.matches, Effect::Opens, &at, &mut Problems::default()),
        methods: spec.allowed_methods.iter().map(|method| method.as_str().into()).collect(),
        body_bytes_max: spec.max_body_bytes,
        headers_max: spec.max_headers,
        header_bytes_max: spec.max_header_bytes,
        uri_bytes_max: spec.max_uri_bytes,
        forbidden,
        stripped,
        once,
        no_underscores: spec.underscores == Some(Underscores::Reject),
        ambiguous_paths: spec.ambiguous_paths,
    }
}

fn check_methods(spec: &GuardRuleSpec, path: &str, problems: &mut Problems) {
    for (i, method) in spec.allowed_methods.iter().enumerate() {
        let at = format!("{path}.allowedMethods[{i}]");
        // Every method that is registered is made of these.
        if method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'-') {
            problems.error(code::GUARD_METHOD, at, format!("{method:?} is no method"));
            problems.help("each by its name, such as POST; to allow all, leave allowedMethods out");
        } else if method.bytes().any(|byte| byte.is_ascii_lowercase()) {
            let message = format!("methods are compared with case, so {method:?} never comes");
            problems.error(code::GUARD_METHOD, at, message);
            problems.help(format!("write {:?}", method.to_ascii_uppercase()));
        } else if ["CONNECT", "TRACE"].contains(&method.as_str()) {
            problems.error(code::GUARD_METHOD, at, format!("{method} is never served"));
        } else if !METHODS.contains(&method.as_str())
            && let Some(near) = did_you_mean(method, METHODS)
        {
            problems.warning(code::GUARD_METHOD, at, format!("{method:?} is a method that few know"));
            problems.help(format!("did you mean {near}?"));
        }
    }
    // A reader would take it for a promise that other methods are refused.
    let within = |methods: &[String]| {
        !methods.is_empty() && methods.iter().all(|method| spec.allowed_methods.contains(method))
    };
    if !spec.allowed_methods.is_empty()
        && !spec.matches.is_empty()
        && spec.matches.iter().all(|item| within(&item.methods))
    {
        let message = "the rule is about requests of these methods only, so it refuses no other method";
        problems.warning(code::GUARD_METHOD, format!("{path}.allowedMethods"), message);
        problems.help("leave methods out of match, or allowedMethods out of the rule");
    }
}

fn content_types(texts: &[String], path: &str, problems: &mut Problems) -> Box<[MediaRange]> {
    let mut ranges = Vec::with_capacity(texts.len());
    for (i, text) in texts.iter().enumerate() {
        let at = format!("{path}[{i}]");
        let Some(range) = MediaRange::parse(text) else {
            problems.error(code::GUARD_CONTENT_TYPE, at, format!("{text:?} is no content type"));
            problems.help("type/subtype or type/*, without parameters: application/json");
            continue;
        };
        let known = MAIN_TYPES.iter().any(|known| range.main().eq_ignore_ascii_case(known));
        if !known && let Some(near) = did_you_mean(range.main(), MAIN_TYPES) {
            let message = format!("no content type begins with {:?}", range.main());
            problems.warning(code::GUARD_CONTENT_TYPE, at, message);
            problems.help(format!("did you mean {near}?"));
        }
        ranges.push(range);
    }
    ranges.into()
}

/// Names, or beginnings and a `*`, none of which may be a header that the proxy needs.
fn header_names(names: &[String], path: &str, problems: &mut Problems) -> HeaderNames {
    for (i, name) in names.iter().enumerate() {
        let at = format!("{path}[{i}]");
        let text = name.strip_suffix('*').unwrap_or(name);
        if HeaderName::from_bytes(text.as_bytes()).is_err() || text.contains('*') {
            problems.error(code::GUARD_HEADER, at, format!("{name:?} is no name of a header"));
            problems.help("a name, or what names begin with and a * at the end: x-debug, x-internal-*");
            continue;
        }
        if let Some(ours) = is_of_proxy(&folded(text), text.len() < name.len()) {
            let message = format!("{name:?} would take {ours:?}, which is the proxy's own matter");
            problems.error(code::GUARD_HEADER, at, message);
            problems.help(
                "framing headers are checked always; what says who is calling is removed at the edge anyway",
            );
        }
    }
    HeaderNames::new(names)
}

/// As [`header_names`], but a header that nobody may forbid may be asked to come once, and `*` means every header.
fn once_names(names: &[String], path: &str, problems: &mut Problems) -> HeaderNames {
    for (i, name) in names.iter().enumerate().filter(|(_, name)| *name != "*") {
        let text = name.strip_suffix('*').unwrap_or(name);
        if HeaderName::from_bytes(text.as_bytes()).is_err() || text.contains('*') {
            problems.error(
                code::GUARD_HEADER,
                format!("{path}[{i}]"),
                format!("{name:?} is no name of a header"),
            );
            problems.help("a name, what names begin with and a * at the end, or \"*\" for every header");
        }
    }
    HeaderNames::new(names)
}
