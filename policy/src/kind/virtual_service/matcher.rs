//! Whether a request is one that a route is for.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName};

use super::binding::{Binding, OwnedBinding, bindings_of};
use super::text::TextMatcher;
use super::{HttpMatch, StringMatch};
use crate::finding::code;
use crate::finding::problem::Problems;
use crate::kind::Meta;
use crate::kind::gateway::host::plain_host;

/// What routes are chosen by. Built after normalization: what is matched is what was judged.
#[derive(Clone, Copy, Debug)]
pub struct RouteView<'a> {
    /// Normalized, without query.
    pub path: &'a str,
    /// As it was sent, without `?`.
    pub query: Option<&'a str>,
    pub method: &'a str,
    pub headers: &'a HeaderMap,
    /// `:authority` or `Host`, as received.
    pub authority: &'a str,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// The Gateway's port, as clients use it; at a sidecar the service's.
    pub port: u16,
    /// Where the request came in.
    pub binding: Binding<'a>,
}

/// A compiled item of `match`. All of it must fit.
#[derive(Clone, Debug, Default)]
pub struct Matcher {
    uri: Option<TextMatcher>,
    /// What a rewrite replaces.
    prefix_len: Option<usize>,
    method: Option<TextMatcher>,
    authority: Option<TextMatcher>,
    scheme: Option<TextMatcher>,
    port: Option<u16>,
    headers: Box<[HeaderMatcher]>,
    query_params: Box<[(Box<str>, Option<TextMatcher>)]>,
    /// `None` in it: the sidecars. Empty: wherever the route is.
    bindings: Box<[OwnedBinding]>,
    source: Option<Box<Source>>,
}

/// What an item asks of the workload that carries the route out.
#[derive(Clone, Debug)]
struct Source {
    labels: BTreeMap<String, String>,
    namespace: Option<String>,
}

#[derive(Clone, Debug)]
struct HeaderMatcher {
    name: HeaderName,
    /// `None`: the header is there.
    value: Option<TextMatcher>,
    /// Of `withoutHeaders`.
    absent: bool,
}

impl Matcher {
    pub(crate) fn new(item: &HttpMatch, meta: &Meta, path: &str, problems: &mut Problems) -> Self {
        if *item == HttpMatch::default() {
            problems.error(code::EMPTY_PART, path, "this item says nothing, so it matches every request");
            problems.help("leave match out to mean every request");
        }
        never_matching(item, path, problems);
        let mut text = |field: &str, pattern: &Option<StringMatch>, ignore_case| {
            let path = format!("{path}.{field}");
            pattern.as_ref().and_then(|p| TextMatcher::new(p, ignore_case, &path, problems))
        };
        let mut matcher = Self {
            uri: text("uri", &item.uri, item.ignore_uri_case),
            prefix_len: match &item.uri {
                Some(StringMatch::Prefix(prefix)) => Some(prefix.len()),
                _ => None,
            },
            method: text("method", &item.method, false),
            authority: text("authority", &item.authority, false),
            scheme: text("scheme", &item.scheme, false),
            port: item.port,
            bindings: bindings_of(item, meta),
            source: Source::of(item).map(Box::new),
            ..Self::default()
        };
        if item.ignore_uri_case && item.uri.is_none() {
            problems.error(code::BAD_PATTERN, format!("{path}.ignoreUriCase"), "there is no uri beside it");
        }
        let there = item.headers.iter().map(|entry| (entry, false, "headers"));
        let gone = item.without_headers.iter().map(|entry| (entry, true, "withoutHeaders"));
        let header = |((name, value), absent, field): ((&String, &Option<StringMatch>), bool, &str)| {
            HeaderMatcher::new(name, value, absent, &format!("{path}.{field}"), problems)
        };
        matcher.headers = there.chain(gone).filter_map(header).collect();
        let mut params = Vec::with_capacity(item.query_params.len());
        for (name, value) in &item.query_params {
            let path = format!("{path}.queryParams.{name}");
            if name.is_empty() || name.contains(['&', '=', '#', ' ']) {
                problems.error(code::BAD_PATTERN, path, format!("{name:?} is no name of a parameter"));
                continue;
            }
            let value = value.as_ref().map(|v| TextMatcher::new(v, false, &path, problems));
            params.push((name.as_str().into(), value.flatten()));
        }
        matcher.query_params = params.into();
        matcher
    }

    pub fn matches(&self, view: &RouteView<'_>) -> bool {
        let fits = |text: &Option<TextMatcher>, value: &str| {
            text.as_ref().is_none_or(|t| t.matches(value.as_bytes()))
        };
        self.port.is_none_or(|port| port == view.port)
            && self.is_bound_to(view.binding)
            && fits(&self.method, view.method)
            && fits(&self.uri, view.path)
            && fits(&self.scheme, view.scheme)
            && self.authority.as_ref().is_none_or(|a| a.matches(plain_host(view.authority).as_bytes()))
            && self.headers.iter().all(|header| header.matches(view.headers))
            && self.query_params.iter().all(|(name, value)| has_param(view.query, name, value.as_ref()))
    }

    fn is_bound_to(&self, binding: Binding<'_>) -> bool {
        let same =
            |own: &OwnedBinding| own.as_ref().map(|(namespace, name)| (&**namespace, &**name)) == binding;
        self.bindings.is_empty() || self.bindings.iter().any(same)
    }

    /// Whether requests of this workload can match at all.
    pub(crate) fn is_for(&self, namespace: &str, labels: &BTreeMap<String, String>) -> bool {
        self.source.as_ref().is_none_or(|source| {
            source.namespace.as_ref().is_none_or(|wanted| wanted == namespace)
                && source.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
        })
    }

    /// How much of the path a rewrite of `uri` replaces: the prefix, or all of an exact path or a regex. Without `uri`
    /// it is the slash at the start, as in Istio.
    pub fn replaced(&self, path: &str) -> usize {
        match (&self.uri, self.prefix_len) {
            (_, Some(prefix)) => prefix,
            (Some(_), None) => path.len(),
            (None, None) => 1,
        }
    }
}

impl Source {
    fn of(item: &HttpMatch) -> Option<Self> {
        let asks = !item.source_labels.is_empty() || item.source_namespace.is_some();
        asks.then(|| Self { labels: item.source_labels.clone(), namespace: item.source_namespace.clone() })
    }
}

impl HeaderMatcher {
    fn new(
        name: &str,
        value: &Option<StringMatch>,
        absent: bool,
        path: &str,
        problems: &mut Problems,
    ) -> Option<Self> {
        let path = format!("{path}.{name}");
        let lower = !name.bytes().any(|b| b.is_ascii_uppercase());
        let Some(parsed) = HeaderName::from_bytes(name.as_bytes()).ok().filter(|_| lower) else {
            problems.error(code::BAD_HEADER, path, format!("{name:?} is no name of a header"));
            problems
                .help("lower case, as Istio asks; uri, method, scheme and authority are fields of their own");
            return None;
        };
        if ["uri", "method", "scheme", "authority", "host"].contains(&name) {
            problems.error(code::BAD_HEADER, path, format!("{name} is not matched as a header"));
            problems.help("take the field uri, method, scheme or authority of the match");
            return None;
        }
        let value = match value {
            Some(value) => Some(TextMatcher::new(value, false, &path, problems)?),
            None => None,
        };
        Some(Self { name: parsed, value, absent })
    }

    /// Each value of a repeated header is compared on its own.
    fn matches(&self, headers: &HeaderMap) -> bool {
        let fits = match &self.value {
            None => headers.contains_key(&self.name),
            Some(value) => headers.get_all(&self.name).iter().any(|v| value.matches(v.as_bytes())),
        };
        fits != self.absent
    }
}

/// As Envoy reads a query: not decoded, and the first of several parameters with one name counts.
fn has_param(query: Option<&str>, name: &str, value: Option<&TextMatcher>) -> bool {
    let mut pairs =
        query.unwrap_or_default().split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let found = pairs.find(|(key, _)| *key == name);
    found.is_some_and(|(_, given)| value.is_none_or(|value| value.matches(given.as_bytes())))
}

/// Values that no request can have.
fn never_matching(item: &HttpMatch, path: &str, problems: &mut Problems) {
    let mut never = |field: &str, message: String, help: &str| {
        problems.error(code::NEVER_MATCHES, format!("{path}.{field}"), message);
        problems.help(help);
    };
    if let Some(StringMatch::Exact(text) | StringMatch::Prefix(text)) = &item.uri {
        if !text.starts_with('/') && !text.is_empty() {
            never("uri", format!("paths start with a slash, so {text:?} never matches"), "start it with /");
        } else if text.contains(['?', '#']) {
            let help = "take queryParams for the query";
            never("uri", format!("the path has no query, so {text:?} never matches"), help);
        }
    }
    if let Some(StringMatch::Exact(text)) = &item.method
        && text.bytes().any(|b| b.is_ascii_lowercase())
    {
        let help = "write it in upper case";
        never("method", format!("methods are compared with case, so {text:?} never matches"), help);
    }
    if let Some(StringMatch::Exact(text) | StringMatch::Prefix(text)) = &item.authority
        && *plain_host(text) != **text
    {
        let help = "write the host in lower case; take port for the port";
        never("authority", format!("the host is compared without port, so {text:?} never matches"), help);
    }
    if let Some(StringMatch::Exact(text)) = &item.scheme
        && !["http", "https"].contains(&text.as_str())
    {
        never("scheme", format!("{text:?} is no scheme of a request"), "write http or https");
    }
}
