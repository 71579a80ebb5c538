//! Headers that a route sets, adds and removes.

use std::collections::{BTreeMap, BTreeSet};

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::finding::code;
use crate::finding::problem::Problems;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    pub request: HeaderChanges,
    pub response: HeaderChanges,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderChanges {
    /// In place of all values.
    pub set: BTreeMap<String, String>,
    /// Beside the values that are there.
    pub add: BTreeMap<String, String>,
    pub remove: Vec<String>,
}

/// Compiled changes: removals first, then `set`, then `add`.
#[derive(Clone, Debug, Default)]
pub struct HeaderOperations {
    remove: Box<[HeaderName]>,
    set: Box<[(HeaderName, HeaderValue)]>,
    add: Box<[(HeaderName, HeaderValue)]>,
}

/// Which way the message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Request,
    Response,
}

/// Framing, the connection, and what names the host: a route that changed them would change what was judged.
const OF_THE_MESSAGE: &[&str] = &[
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "upgrade",
    "expect",
];
/// What says who is calling, and from where. Only the proxy writes these.
const OF_THE_CALLER: &[&str] = &["forwarded", "x-real-ip", "x-request-id", "x-forwarded-client-cert"];
const OF_THE_CALLER_PREFIXES: &[&str] = &["x-palisade-", "x-forwarded-", "x-envoy-"];

impl HeaderOperations {
    pub(crate) fn new(changes: &HeaderChanges, side: Side, path: &str, problems: &mut Problems) -> Self {
        let mut pairs = |field: &str, entries: &BTreeMap<String, String>| {
            let pair = |(name, value): (&String, &String)| {
                let path = format!("{path}.{field}.{name}");
                let (name, value) =
                    (header_name(name, side, &path, problems), header_value(value, &path, problems));
                name.zip(value)
            };
            entries.iter().filter_map(pair).collect()
        };
        let (set, add) = (pairs("set", &changes.set), pairs("add", &changes.add));
        let removed = changes.remove.iter().enumerate();
        let remove = removed
            .filter_map(|(i, name)| header_name(name, side, &format!("{path}.remove[{i}]"), problems))
            .collect();
        Self { remove, set, add }
    }

    pub fn apply(&self, headers: &mut HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value) in &self.set {
            headers.insert(name, value.clone());
        }
        for (name, value) in &self.add {
            headers.append(name, value.clone());
        }
    }

    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }

    /// The headers that are changed.
    pub(crate) fn names(&self) -> BTreeSet<&str> {
        let named = self.set.iter().chain(&self.add).map(|(name, _)| name);
        named.chain(&self.remove).map(HeaderName::as_str).collect()
    }
}

fn header_name(name: &str, side: Side, path: &str, problems: &mut Problems) -> Option<HeaderName> {
    let Ok(parsed) = HeaderName::from_bytes(name.as_bytes()) else {
        problems.error(code::BAD_HEADER, path, format!("{name:?} is no name of a header"));
        if name.starts_with(':') {
            problems.help("take rewrite for authority and path");
        }
        return None;
    };
    // CGI-style servers read `_` as `-`.
    let folded = parsed.as_str().replace('_', "-");
    let of_caller = OF_THE_CALLER.contains(&&*folded)
        || OF_THE_CALLER_PREFIXES.iter().any(|prefix| folded.starts_with(prefix));
    if OF_THE_MESSAGE.contains(&&*folded)
        || (of_caller && (side == Side::Request || folded.starts_with("x-palisade-")))
    {
        problems.error(code::BAD_HEADER, path, format!("{name:?} is not for routes to change"));
        problems.help(if folded == "host" {
            "take rewrite.authority"
        } else {
            "the proxy alone writes framing headers and those that say who is calling"
        });
        return None;
    }
    Some(parsed)
}

/// The header that routes and guards must leave alone and that this folded name is, or begins.
pub(crate) fn is_of_proxy(folded: &str, prefix: bool) -> Option<&'static str> {
    let exact = OF_THE_MESSAGE.iter().chain(OF_THE_CALLER).copied();
    let mut exact = exact.filter(|name| if prefix { name.starts_with(folded) } else { *name == folded });
    let mut prefixes = OF_THE_CALLER_PREFIXES.iter().copied();
    let prefixed = |with: &&str| folded.starts_with(with) || (prefix && with.starts_with(folded));
    exact.next().or_else(|| prefixes.find(prefixed))
}

fn header_value(value: &str, path: &str, problems: &mut Problems) -> Option<HeaderValue> {
    if value.replace("%%", "").contains('%') {
        let message = "Envoy's operators (%...%) are not taken by this version";
        problems.error(code::BAD_HEADER, path, message);
        problems.help("write %% for a percent sign");
        return None;
    }
    let text = value.replace("%%", "%");
    let parsed = HeaderValue::from_str(&text).ok();
    if parsed.is_none() {
        problems.error(code::BAD_HEADER, path, "this is no value of a header: visible ASCII and spaces");
    }
    parsed
}
