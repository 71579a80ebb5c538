//! What the routes of a VirtualService are made of.

use std::collections::BTreeMap;
use std::time::Duration;

use palisade_policy::kind::virtual_service::cors::{CorsPolicy, UnmatchedPreflights};
use palisade_policy::kind::virtual_service::rewrite::{RegexRewrite, Rewrite};
use palisade_policy::kind::virtual_service::{HeaderChanges, Headers, HttpMatch, StringMatch};

use super::WireError;
use super::scalar::{each, enumeration, optional_port, optional_text, unspecified};
use crate::v1::virtual_service as wire;
use wire::string_match::Pattern;

/// A duration beyond the range of u64 is refused on both sides.
pub(super) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn match_to_wire(item: &HttpMatch) -> wire::Match {
    let text = |pattern: &Option<StringMatch>| pattern.as_ref().map(string_to_wire);
    wire::Match {
        uri: text(&item.uri),
        ignore_uri_case: item.ignore_uri_case,
        method: text(&item.method),
        authority: text(&item.authority),
        scheme: text(&item.scheme),
        port: item.port.map(Into::into).unwrap_or_default(),
        headers: strings_to_wire(&item.headers),
        without_headers: strings_to_wire(&item.without_headers),
        query_params: strings_to_wire(&item.query_params),
        gateways: item.gateways.clone(),
        source_labels: item.source_labels.clone(),
        source_namespace: item.source_namespace.clone().unwrap_or_default(),
    }
}

fn string_to_wire(pattern: &StringMatch) -> wire::StringMatch {
    let pattern = match pattern {
        StringMatch::Exact(text) => Pattern::Exact(text.clone()),
        StringMatch::Prefix(text) => Pattern::Prefix(text.clone()),
        StringMatch::Regex(text) => Pattern::Regex(text.clone()),
    };
    wire::StringMatch { pattern: Some(pattern) }
}

type ByName = BTreeMap<String, Option<StringMatch>>;

fn strings_to_wire(by_name: &ByName) -> BTreeMap<String, wire::StringMatch> {
    let present = || wire::StringMatch { pattern: Some(Pattern::Present(wire::Nothing {})) };
    let value = |pattern: &Option<StringMatch>| pattern.as_ref().map_or_else(present, string_to_wire);
    by_name.iter().map(|(name, pattern)| (name.clone(), value(pattern))).collect()
}

pub(super) fn headers_to_wire(headers: &Headers) -> wire::Headers {
    let changes = |c: &HeaderChanges| wire::HeaderChanges {
        set: c.set.clone(),
        add: c.add.clone(),
        remove: c.remove.clone(),
    };
    wire::Headers { request: Some(changes(&headers.request)), response: Some(changes(&headers.response)) }
}

pub(super) fn rewrite_to_wire(rewrite: &Rewrite) -> wire::Rewrite {
    wire::Rewrite {
        uri: rewrite.uri.clone().unwrap_or_default(),
        authority: rewrite.authority.clone().unwrap_or_default(),
        uri_regex: rewrite
            .uri_regex
            .as_ref()
            .map(|r| wire::RegexRewrite { pattern: r.pattern.clone(), replacement: r.replacement.clone() }),
    }
}

pub(super) fn cors_to_wire(cors: &CorsPolicy) -> wire::Cors {
    let unmatched = match cors.unmatched_preflights {
        UnmatchedPreflights::Forward => wire::UnmatchedPreflights::Forward,
        UnmatchedPreflights::Ignore => wire::UnmatchedPreflights::Ignore,
    };
    wire::Cors {
        allow_origins: cors.allow_origins.iter().map(string_to_wire).collect(),
        allow_methods: cors.allow_methods.clone(),
        allow_headers: cors.allow_headers.clone(),
        expose_headers: cors.expose_headers.clone(),
        max_age_ms: cors.max_age.map(milliseconds),
        allow_credentials: cors.allow_credentials,
        unmatched_preflights: unmatched.into(),
    }
}

pub(super) fn match_from_wire(item: wire::Match) -> Result<HttpMatch, WireError> {
    let text = |field: &str, pattern: Option<wire::StringMatch>| {
        pattern.map(string_from_wire).transpose().map_err(|error| error.within(field))
    };
    Ok(HttpMatch {
        uri: text("uri", item.uri)?,
        ignore_uri_case: item.ignore_uri_case,
        method: text("method", item.method)?,
        authority: text("authority", item.authority)?,
        scheme: text("scheme", item.scheme)?,
        port: optional_port("port", item.port)?,
        headers: strings_from_wire("headers", item.headers)?,
        without_headers: strings_from_wire("without_headers", item.without_headers)?,
        query_params: strings_from_wire("query_params", item.query_params)?,
        gateways: item.gateways,
        source_labels: item.source_labels,
        source_namespace: optional_text(item.source_namespace),
    })
}

fn string_from_wire(pattern: wire::StringMatch) -> Result<StringMatch, WireError> {
    match pattern.pattern {
        Some(Pattern::Exact(text)) => Ok(StringMatch::Exact(text)),
        Some(Pattern::Prefix(text)) => Ok(StringMatch::Prefix(text)),
        Some(Pattern::Regex(text)) => Ok(StringMatch::Regex(text)),
        Some(Pattern::Present(_)) => Err(WireError::new("pattern", "presence is for headers and parameters")),
        None => Err(unspecified("pattern")),
    }
}

fn strings_from_wire(field: &str, by_name: BTreeMap<String, wire::StringMatch>) -> Result<ByName, WireError> {
    let mut out = ByName::new();
    for (name, pattern) in by_name {
        let pattern = match pattern.pattern {
            Some(Pattern::Present(_)) => None,
            _ => Some(string_from_wire(pattern).map_err(|error| error.within(&format!("{field}[{name}]")))?),
        };
        out.insert(name, pattern);
    }
    Ok(out)
}

pub(super) fn headers_from_wire(headers: Option<wire::Headers>) -> Result<Headers, WireError> {
    let headers = headers.ok_or_else(|| unspecified("headers"))?;
    let changes = |field: &str, changes: Option<wire::HeaderChanges>| {
        let changes = changes.ok_or_else(|| unspecified(field).within("headers"))?;
        Ok(HeaderChanges { set: changes.set, add: changes.add, remove: changes.remove })
    };
    Ok(Headers {
        request: changes("request", headers.request)?,
        response: changes("response", headers.response)?,
    })
}

pub(super) fn rewrite_from_wire(rewrite: wire::Rewrite) -> Rewrite {
    let regex = |r: wire::RegexRewrite| RegexRewrite { pattern: r.pattern, replacement: r.replacement };
    Rewrite {
        uri: optional_text(rewrite.uri),
        authority: optional_text(rewrite.authority),
        uri_regex: rewrite.uri_regex.map(regex),
    }
}

pub(super) fn cors_from_wire(cors: wire::Cors) -> Result<CorsPolicy, WireError> {
    let unmatched_preflights = match enumeration("unmatched_preflights", cors.unmatched_preflights)? {
        wire::UnmatchedPreflights::Unspecified => return Err(unspecified("unmatched_preflights")),
        wire::UnmatchedPreflights::Forward => UnmatchedPreflights::Forward,
        wire::UnmatchedPreflights::Ignore => UnmatchedPreflights::Ignore,
    };
    Ok(CorsPolicy {
        allow_origins: each("allow_origins", cors.allow_origins, string_from_wire)?,
        allow_methods: cors.allow_methods,
        allow_headers: cors.allow_headers,
        expose_headers: cors.expose_headers,
        max_age: cors.max_age_ms.map(Duration::from_millis),
        allow_credentials: cors.allow_credentials,
        unmatched_preflights,
    })
}
