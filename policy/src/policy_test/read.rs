//! From YAML to a PolicyTest.

use std::collections::{BTreeMap, BTreeSet};

use http::{HeaderName, HeaderValue};
use palisade_identity::TrustDomain;
use serde_json::{Map, Value as Json};

use super::{Case, Expect, PLAINTEXT, PolicyTest, RequestSpec, WorkloadSpec};
use crate::document::reader::{At, Fields, Reader};
use crate::finding::{Position, code};
use crate::kind::Meta;

const PROTOCOLS: &[(&str, bool)] = &[("http", false), ("tcp", true)];
/// What connections of raw TCP do not have.
const OF_HTTP: [&str; 7] = ["methods", "paths", "host", "headers", "token", "invalidToken", "bodyBytes"];
const DECISIONS: &[(&str, bool)] = &[("allow", true), ("deny", false)];

/// Reads the spec. What is wrong is among the reader's findings.
pub(crate) fn read(reader: &mut Reader<'_>, meta: Meta, at: &At<'_>, start: Position) -> Option<PolicyTest> {
    let before = reader.findings.0.len();
    let mut fields = reader.mapping(at)?;
    let trust_domain = fields.take("trustDomain").and_then(|at| read_domain(reader, &at));
    let workloads = match fields.take("workloads") {
        Some(at) => read_workloads(reader, &at),
        None => BTreeMap::new(),
    };
    let mut cases = Vec::new();
    if let Some(at) = fields.take("cases") {
        for item in reader.items(&at) {
            cases.extend(read_case(reader, &item));
        }
    }
    if let Some(at) = fields.take("matrices") {
        for item in reader.items(&at) {
            cases.extend(read_matrix(reader, &item));
        }
    }
    if cases.is_empty() && reader.findings.0.len() == before {
        let help = Some("write cases, or matrices".to_owned());
        reader.error(code::POLICY_TEST, at.mark(), &at.path, "the test asks nothing", help);
    }
    reader.finish(fields, &[]);
    Some(PolicyTest { meta, trust_domain, cases, workloads, position: Some(start) })
}

fn read_domain(reader: &mut Reader<'_>, at: &At<'_>) -> Option<TrustDomain> {
    let text = reader.text(at)?;
    let domain = TrustDomain::parse(&text);
    domain.map_err(|error| refuse(reader, at, format!("{text:?} is no trust domain: {error}"))).ok()
}

fn read_workloads(reader: &mut Reader<'_>, at: &At<'_>) -> BTreeMap<String, WorkloadSpec> {
    let mut out = BTreeMap::new();
    for (name, at) in reader.entries(at) {
        let Some(mut fields) = reader.mapping(&at) else { continue };
        let labels = reader.text_map(fields.take("labels"));
        let port = fields.take("port").and_then(|at| reader.port(&at));
        reader.finish(fields, &[]);
        out.insert(name.to_owned(), WorkloadSpec { labels, port });
    }
    out
}

fn read_case(reader: &mut Reader<'_>, at: &At<'_>) -> Option<Case> {
    let mut fields = reader.mapping(at)?;
    let name = fields.take("name").and_then(|at| reader.text(&at));
    let from = named(reader, &mut fields, "from", "who calls: from: [payments]");
    let to = named(reader, &mut fields, "to", "who is called: to: [ledger]");
    let request = read_request(reader, &mut fields);
    let allowed = match fields.take("expect") {
        Some(at) => reader.choice(&at, DECISIONS),
        None => {
            reader.missing(&fields, "expect", "write expect: allow, or expect: deny");
            None
        }
    };
    let reason = fields.take("reason").and_then(|at| reader.text(&at));
    let policy = fields.take("policy").and_then(|at| reader.text(&at));
    reader.finish(fields, &[]);
    let position = Some(place(reader, at));
    let expect = Expect { allowed: allowed?, reason, policy };
    let name = name.unwrap_or_else(|| title(&from, &to, &request));
    Some(Case { name, from, to, request, expect, position })
}

fn title(from: &[String], to: &[String], request: &RequestSpec) -> String {
    let or = |list: &[String], default: &str| match list.is_empty() {
        true => default.to_owned(),
        false => list.join(","),
    };
    if request.tcp {
        return format!("{} to {}: TCP", from.join(","), to.join(","));
    }
    let (methods, paths) = (or(&request.methods, "GET"), or(&request.paths, "/"));
    format!("{} to {}: {methods} {paths}", from.join(","), to.join(","))
}

/// A list of names that cannot be left out.
fn named(reader: &mut Reader<'_>, fields: &mut Fields<'_>, name: &'static str, help: &str) -> Vec<String> {
    match fields.take(name) {
        Some(at) => reader.texts(Some(at)),
        None => {
            reader.missing(fields, name, help);
            Vec::new()
        }
    }
}

fn read_request(reader: &mut Reader<'_>, fields: &mut Fields<'_>) -> RequestSpec {
    let tcp = fields.take("protocol").and_then(|at| reader.choice(&at, PROTOCOLS)).unwrap_or_default();
    if tcp {
        for at in OF_HTTP.iter().filter_map(|name| fields.take(name)) {
            refuse(reader, &at, "nothing is read on a port of protocol tcp: leave it out");
        }
    }
    let token_at = fields.take("token");
    let token = token_at.as_ref().and_then(|at| read_claims(reader, at));
    let invalid_token = fields.take("invalidToken").and_then(|at| reader.boolean(&at)).unwrap_or_default();
    if let Some(at) = token_at.filter(|_| invalid_token) {
        refuse(reader, &at, "a token that is not valid says nothing: leave token or invalidToken out");
    }
    let address = |reader: &mut Reader<'_>, at: At<'_>| {
        let text = reader.text(&at)?;
        text.parse().map_err(|_no| refuse(reader, &at, format!("{text:?} is no address"))).ok()
    };
    RequestSpec {
        tcp,
        methods: reader.texts(fields.take("methods")),
        paths: reader.texts(fields.take("paths")),
        host: fields.take("host").and_then(|at| reader.text(&at)),
        port: fields.take("port").and_then(|at| reader.port(&at)),
        headers: fields.take("headers").map(|at| read_headers(reader, at)).unwrap_or_default(),
        token,
        invalid_token,
        source_ip: fields.take("sourceIp").and_then(|at| address(reader, at)),
        remote_ip: fields.take("remoteIp").and_then(|at| address(reader, at)),
        sni: fields.take("sni").and_then(|at| reader.text(&at)),
        body_bytes: fields.take("bodyBytes").and_then(|at| reader.number(&at)).unwrap_or_default(),
    }
}

fn read_headers(reader: &mut Reader<'_>, at: At<'_>) -> BTreeMap<String, String> {
    let headers = reader.text_map(Some(at.clone()));
    for (name, value) in &headers {
        let good = HeaderName::from_bytes(name.as_bytes()).is_ok() && HeaderValue::from_str(value).is_ok();
        if !good {
            refuse(reader, &at, format!("{name:?} with the value {value:?} is no header"));
        }
    }
    headers
}

fn read_claims(reader: &mut Reader<'_>, at: &At<'_>) -> Option<Map<String, Json>> {
    let entries = reader.mapping(at).map(|_| reader.entries(at))?;
    let claims: Map<String, Json> =
        entries.into_iter().map(|(name, at)| (name.to_owned(), reader.anything(&at).json())).collect();
    if !claims.contains_key("iss") {
        refuse(reader, at, "a token has an issuer: write iss");
    }
    Some(claims)
}

/// Callers and endpoints: what a caller's list names is allowed, everything else is refused.
fn read_matrix(reader: &mut Reader<'_>, at: &At<'_>) -> Vec<Case> {
    let Some(mut fields) = reader.mapping(at) else { return Vec::new() };
    let name = fields.take("name").and_then(|at| reader.text(&at));
    let to = fields.take("to").and_then(|at| reader.text(&at));
    if to.is_none() {
        reader.missing(&fields, "to", "who is called: to: ledger");
    }
    let mut endpoints = Vec::new();
    if let Some(at) = fields.take("endpoints") {
        for (name, at) in reader.entries(&at) {
            let Some(mut fields) = reader.mapping(&at) else { continue };
            endpoints.push((name.to_owned(), read_request(reader, &mut fields)));
            reader.finish(fields, &[]);
        }
    } else {
        reader.missing(
            &fields,
            "endpoints",
            "name each: endpoints: {read: {methods: [GET], paths: [/entries]}}",
        );
    }
    let callers = match fields.take("allow") {
        Some(at) => reader.entries(&at),
        None => {
            reader.missing(&fields, "allow", "who may call which: allow: {payments: [read], plaintext: []}");
            Vec::new()
        }
    };
    let (to, name) = (to.unwrap_or_default(), name.unwrap_or_else(|| "matrix".to_owned()));
    let mut cases = Vec::new();
    for (caller, at) in callers {
        let allowed = read_allowed(reader, &at, &endpoints);
        for (endpoint, request) in &endpoints {
            let expect = Expect { allowed: allowed.contains(endpoint), reason: None, policy: None };
            let verb = if expect.allowed { "may" } else { "may not" };
            cases.push(Case {
                name: format!("{name}: {caller} {verb} {endpoint}"),
                from: vec![caller.to_owned()],
                to: vec![to.clone()],
                request: request.clone(),
                expect,
                position: Some(place(reader, &at)),
            });
        }
    }
    reader.finish(fields, &[]);
    cases
}

/// The endpoints that a caller may reach; an empty list is what `plaintext: []` means.
fn read_allowed(
    reader: &mut Reader<'_>,
    at: &At<'_>,
    endpoints: &[(String, RequestSpec)],
) -> BTreeSet<String> {
    let mut allowed = BTreeSet::new();
    for item in reader.items(at) {
        let Some(name) = reader.text(&item) else { continue };
        if !endpoints.iter().any(|(known, _)| *known == name) {
            let known: Vec<&str> = endpoints.iter().map(|(known, _)| known.as_str()).collect();
            let message = format!("there is no endpoint {name:?}; endpoints here: {}", known.join(", "));
            refuse(reader, &item, message);
        }
        allowed.insert(name);
    }
    allowed
}

fn place(reader: &Reader<'_>, at: &At<'_>) -> Position {
    Position { file: reader.file.to_owned(), line: at.mark().line, column: at.mark().column }
}

fn refuse(reader: &mut Reader<'_>, at: &At<'_>, message: impl Into<String>) {
    let help = Some("docs/policy-tests.md has an example of each field".to_owned());
    reader.error(code::POLICY_TEST, at.mark(), &at.path, message, help);
}

/// Whether a name in `from` is a caller without a certificate.
pub(super) fn is_plaintext(name: &str) -> bool {
    name == PLAINTEXT
}
