//! From YAML to the spec: what routes are made of.

use std::collections::BTreeMap;

use super::cors::{CorsPolicy, UnmatchedPreflights};
use super::rewrite::{RegexRewrite, Rewrite};
use super::{HeaderChanges, Headers, HttpMatch, StringMatch};
use crate::document::reader::{At, Fields, Reader};
use crate::finding::code;

const MATCH_UNSUPPORTED: &[(&str, &str)] = &[("statPrefix", "not yet: records carry the route's name")];

pub(super) fn read_match(reader: &mut Reader<'_>, at: &At<'_>) -> Option<HttpMatch> {
    let mut fields = reader.mapping(at)?;
    // Istio's name of an item; requests are reported by the route's.
    let _name = fields.take("name").and_then(|at| reader.text(&at));
    let mut text = |name| fields.take(name).and_then(|at| read_string(reader, &at));
    let mut item = HttpMatch {
        uri: text("uri"),
        method: text("method"),
        authority: text("authority"),
        scheme: text("scheme"),
        ..HttpMatch::default()
    };
    item.ignore_uri_case =
        fields.take("ignoreUriCase").and_then(|at| reader.boolean(&at)).unwrap_or_default();
    item.port = fields.take("port").and_then(|at| reader.port(&at));
    item.gateways = reader.texts(fields.take("gateways"));
    item.source_labels = reader.text_map(fields.take("sourceLabels"));
    item.source_namespace = fields.take("sourceNamespace").and_then(|at| reader.text(&at));
    item.headers = read_strings(reader, fields.take("headers"));
    item.without_headers = read_strings(reader, fields.take("withoutHeaders"));
    item.query_params = read_strings(reader, fields.take("queryParams"));
    reader.finish(fields, MATCH_UNSUPPORTED);
    Some(item)
}

/// One of `exact`, `prefix`, `regex`.
fn read_string(reader: &mut Reader<'_>, at: &At<'_>) -> Option<StringMatch> {
    let mut fields = reader.mapping(at)?;
    let mut found = Vec::new();
    for (name, form) in FORMS {
        let Some(at) = fields.take(name) else { continue };
        // A parameter may have the empty value, and only `exact` can say so.
        let text = if *name == "exact" { reader.any_text(&at) } else { reader.text(&at) };
        found.push(text.map(form));
    }
    reader.finish(fields, &[]);
    if found.len() != 1 {
        let help = Some("one of exact: TEXT, prefix: TEXT, regex: RE2".to_owned());
        reader.error(code::BAD_PATTERN, at.mark(), &at.path, "a match of a text has one pattern", help);
        return None;
    }
    found.pop().flatten()
}

type Form = fn(String) -> StringMatch;
const FORMS: &[(&str, Form)] =
    &[("exact", StringMatch::Exact), ("prefix", StringMatch::Prefix), ("regex", StringMatch::Regex)];

/// By name; `{}` is presence.
fn read_strings(reader: &mut Reader<'_>, at: Option<At<'_>>) -> BTreeMap<String, Option<StringMatch>> {
    let Some(at) = at else { return BTreeMap::new() };
    let mut out = BTreeMap::new();
    for (name, value) in reader.entries(&at) {
        let presence = value.is_empty_mapping();
        let pattern = if presence { None } else { read_string(reader, &value) };
        out.insert(name.to_owned(), pattern);
    }
    out
}

pub(super) fn read_headers(reader: &mut Reader<'_>, at: &At<'_>) -> Option<Headers> {
    let mut fields = reader.mapping(at)?;
    let request = fields.take("request").and_then(|at| read_changes(reader, &at)).unwrap_or_default();
    let response = fields.take("response").and_then(|at| read_changes(reader, &at)).unwrap_or_default();
    reader.finish(fields, &[]);
    Some(Headers { request, response })
}

fn read_changes(reader: &mut Reader<'_>, at: &At<'_>) -> Option<HeaderChanges> {
    let mut fields = reader.mapping(at)?;
    let set = reader.text_map(fields.take("set"));
    let add = reader.text_map(fields.take("add"));
    let remove = reader.texts(fields.take("remove"));
    reader.finish(fields, &[]);
    Some(HeaderChanges { set, add, remove })
}

pub(super) fn read_rewrite(reader: &mut Reader<'_>, at: &At<'_>) -> Option<Rewrite> {
    let mut fields = reader.mapping(at)?;
    let uri = optional_text(reader, &mut fields, "uri");
    let authority = optional_text(reader, &mut fields, "authority");
    let uri_regex = fields.take("uriRegexRewrite").and_then(|at| read_regex_rewrite(reader, &at));
    reader.finish(fields, &[]);
    Some(Rewrite { uri, authority, uri_regex })
}

fn read_regex_rewrite(reader: &mut Reader<'_>, at: &At<'_>) -> Option<RegexRewrite> {
    let mut fields = reader.mapping(at)?;
    let [pattern, replacement] = ["match", "rewrite"].map(|name| {
        let at = fields.take(name);
        if at.is_none() {
            reader.missing(&fields, name, "for example match: ^/v1/(.*)$ and rewrite: /\\1");
        }
        at
    });
    let pattern = pattern.and_then(|at| reader.text(&at));
    // What matched may be meant to go.
    let replacement = replacement.and_then(|at| reader.any_text(&at));
    reader.finish(fields, &[]);
    Some(RegexRewrite { pattern: pattern?, replacement: replacement? })
}

pub(super) fn read_cors(reader: &mut Reader<'_>, at: &At<'_>) -> Option<CorsPolicy> {
    let mut fields = reader.mapping(at)?;
    let allow_origins = match fields.take("allowOrigins") {
        Some(at) => reader.items(&at).iter().filter_map(|item| read_string(reader, item)).collect(),
        None => Vec::new(),
    };
    let mut list = |name| reader.texts(fields.take(name));
    let (allow_methods, allow_headers, expose_headers) =
        (list("allowMethods"), list("allowHeaders"), list("exposeHeaders"));
    let max_age = fields.take("maxAge").and_then(|at| reader.duration(&at));
    let allow_credentials =
        fields.take("allowCredentials").and_then(|at| reader.boolean(&at)).unwrap_or_default();
    let words = [
        ("FORWARD", UnmatchedPreflights::Forward),
        ("UNSPECIFIED", UnmatchedPreflights::Forward),
        ("IGNORE", UnmatchedPreflights::Ignore),
    ];
    let unmatched = fields.take("unmatchedPreflights").and_then(|at| reader.choice(&at, &words));
    reader.finish(fields, &[("allowOrigin", "write allowOrigins: [{exact: ...}]")]);
    Some(CorsPolicy {
        allow_origins,
        allow_methods,
        allow_headers,
        expose_headers,
        max_age,
        allow_credentials,
        unmatched_preflights: unmatched.unwrap_or_default(),
    })
}

fn optional_text(reader: &mut Reader<'_>, fields: &mut Fields<'_>, name: &'static str) -> Option<String> {
    fields.take(name).and_then(|at| reader.text(&at))
}
