//! What a comparison asks for at one service: methods and paths that either set names, and what else requests may have.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use http::{HeaderName, HeaderValue};
use ipnet::IpNet;
use palisade_identity::SpiffeId;
use serde_json::{Map, Value};

use super::fill::{self, OTHER};
use crate::explain::{GivenToken, Question};
use crate::kind::authorization_policy::{Condition, Rule};
use crate::kind::{Meta, Object, Selector, Spec, selects};
use crate::projection::Workload;
use crate::set::{PolicySet, ROOT_NAMESPACE};

const METHODS: [&str; 8] = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "REPORT"];
/// The port of requests that no policy is about by port.
const PORT: u16 = 8080;
/// Contexts of one service; more are left out, the widest rules first.
const CONTEXTS_MAX: usize = 400;

/// Texts are followed by what they are shown as.
#[derive(Debug)]
pub(super) struct Endpoints {
    pub(super) methods: Vec<(String, String)>,
    pub(super) paths: Vec<(String, String)>,
    /// The first has nothing but a caller, a method and a path.
    pub(super) contexts: Vec<Context>,
}

/// What a request has beside caller, method and path.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Context {
    port: Option<u16>,
    host: Option<String>,
    headers: BTreeMap<String, String>,
    claims: Map<String, Value>,
    source_ip: Option<IpAddr>,
    remote_ip: Option<IpAddr>,
    destination_ip: Option<IpAddr>,
    sni: Option<String>,
}

impl Endpoints {
    pub(super) fn new(sets: &[&PolicySet; 2], workload: &Workload) -> Self {
        let mut gathered = Gathered::default();
        for object in sets.iter().flat_map(|set| set.objects()) {
            if is_for(object, workload) {
                gathered.object(object);
            }
        }
        gathered.endpoints()
    }

    pub(super) fn size(&self) -> usize {
        self.methods.len().saturating_mul(self.paths.len()).saturating_mul(self.contexts.len())
    }
}

fn is_for(object: &Object, workload: &Workload) -> bool {
    let namespace = workload.id.workload().map(|w| w.namespace.as_str()).unwrap_or_default();
    let mine = |meta: &Meta, selector: &Selector| {
        selects(&meta.namespace, selector, ROOT_NAMESPACE, namespace, &workload.labels)
    };
    match &object.spec {
        Spec::AuthorizationPolicy(spec) => mine(&object.meta, &spec.selector),
        Spec::PeerAuthentication(spec) => mine(&object.meta, &spec.selector),
        Spec::RequestAuthentication(spec) => mine(&object.meta, &spec.selector),
        Spec::JwtPolicy(spec) => mine(&object.meta, &spec.selector),
        Spec::RequestGuard(spec) => mine(&object.meta, &spec.selector),
        _ => false,
    }
}

#[derive(Default)]
struct Gathered {
    methods: BTreeSet<String>,
    paths: BTreeSet<(String, String)>,
    ports: BTreeSet<u16>,
    hosts: BTreeSet<String>,
    /// Claims that make a token of each issuer be taken, and what JwtPolicies ask for.
    tokens: Vec<Map<String, Value>>,
    scopes: BTreeSet<String>,
    contexts: Vec<Context>,
}

impl Gathered {
    fn object(&mut self, object: &Object) {
        match &object.spec {
            Spec::AuthorizationPolicy(spec) => spec.rules.iter().for_each(|rule| self.rule(rule)),
            Spec::PeerAuthentication(spec) => self.ports.extend(spec.port_level.keys()),
            Spec::RequestAuthentication(spec) => {
                for rule in &spec.rules {
                    let mut claims = Map::from_iter([
                        ("iss".to_owned(), Value::from(rule.issuer.clone())),
                        ("sub".to_owned(), Value::from(OTHER)),
                    ]);
                    if !rule.audiences.is_empty() {
                        claims.insert("aud".to_owned(), Value::from(rule.audiences.clone()));
                    }
                    self.tokens.push(claims);
                }
            }
            Spec::JwtPolicy(spec) => {
                for rule in &spec.rules {
                    self.scopes.extend(rule.scopes.iter().cloned());
                    rule.matches
                        .iter()
                        .for_each(|item| self.matched(&item.methods, &item.paths, &item.hosts));
                }
            }
            Spec::RequestGuard(spec) => {
                for rule in &spec.rules {
                    self.methods.extend(rule.allowed_methods.iter().cloned());
                    rule.matches
                        .iter()
                        .for_each(|item| self.matched(&item.methods, &item.paths, &item.hosts));
                }
            }
            _ => {}
        }
    }

    fn matched(&mut self, methods: &[String], paths: &[String], hosts: &[String]) {
        self.methods.extend(methods.iter().map(|method| fill::text(method)));
        for pattern in paths {
            self.paths.extend(fill::paths(pattern).into_iter().map(|path| (path, pattern.clone())));
        }
        self.hosts.extend(hosts.iter().map(|host| fill::text(host)));
    }

    fn rule(&mut self, rule: &Rule) {
        for operation in &rule.to {
            let both = |a: &[String], b: &[String]| [a, b].concat();
            self.matched(
                &both(&operation.methods, &operation.not_methods),
                &both(&operation.paths, &operation.not_paths),
                &both(&operation.hosts, &operation.not_hosts),
            );
            let ports = operation.ports.iter().chain(&operation.not_ports);
            self.ports.extend(ports.filter_map(|port| port.parse::<u16>().ok()));
        }
        let conditions: Vec<Condition> = source_conditions(rule).chain(rule.when.iter().cloned()).collect();
        for condition in conditions.iter().filter(|c| c.key == "request.headers[:method]") {
            self.methods.extend(condition.values.iter().map(|value| fill::text(value)));
        }
        let told: Vec<&Condition> = conditions.iter().filter(|c| !is_about_caller(&c.key)).collect();
        if told.is_empty() && rule.to.iter().all(|o| o.ports.is_empty() && o.hosts.is_empty()) {
            return;
        }
        self.rule_contexts(rule, &told);
    }

    /// A context that the rule is about, and for each value that it names beside the first one with that.
    fn rule_contexts(&mut self, rule: &Rule, conditions: &[&Condition]) {
        let mut first = Context::default();
        conditions
            .iter()
            .filter_map(|c| Some((c, c.values.first()?)))
            .for_each(|(c, v)| first.set(&c.key, v));
        let operations = rule.to.iter().map(|o| (o.hosts.first(), o.ports.first()));
        let places: Vec<_> = if rule.to.is_empty() { vec![(None, None)] } else { operations.collect() };
        for (host, port) in places {
            let mut base = first.clone();
            host.into_iter().for_each(|host| base.set("host", host));
            port.into_iter().for_each(|port| base.set("destination.port", port));
            self.contexts.push(base.clone());
            for condition in conditions {
                for value in condition.values.iter().skip(1).chain(&condition.not_values) {
                    let mut other = base.clone();
                    other.set(&condition.key, value);
                    self.contexts.push(other);
                }
            }
        }
    }

    fn endpoints(mut self) -> Endpoints {
        let other = METHODS.iter().find(|method| !self.methods.contains(**method)).unwrap_or(&"OTHER");
        let mut methods: Vec<_> = self.methods.iter().map(|m| (m.clone(), m.clone())).collect();
        methods.push(((*other).to_owned(), "any other method".to_owned()));
        // A path stands for the first pattern that it was made of, or for itself where it is written so.
        let mut paths: BTreeMap<String, String> = BTreeMap::new();
        for (path, pattern) in &self.paths {
            let shown = paths.entry(path.clone()).or_insert_with(|| pattern.clone());
            if path == pattern {
                shown.clone_from(pattern);
            }
        }
        let mut paths: Vec<_> = paths.into_iter().collect();
        for path in [format!("/{OTHER}"), format!("/{OTHER}/more")] {
            paths.push((path, "any other path".to_owned()));
        }
        Endpoints { methods, paths, contexts: self.all_contexts() }
    }

    fn all_contexts(&mut self) -> Vec<Context> {
        let mut all = vec![Context::default()];
        let ports = self.ports.iter().filter(|port| **port != PORT);
        all.extend(ports.map(|port| Context { port: Some(*port), ..Context::default() }));
        all.extend(self.hosts.iter().map(|host| Context { host: Some(host.clone()), ..Context::default() }));
        let scope = self.scopes.iter().cloned().collect::<Vec<_>>().join(" ");
        let with_scopes = |claims: &Map<String, Value>| {
            let mut claims = claims.clone();
            if !scope.is_empty() {
                claims.insert("scope".to_owned(), Value::from(scope.clone()));
            }
            claims
        };
        for claims in &self.tokens {
            all.push(Context { claims: claims.clone(), ..Context::default() });
            all.push(Context { claims: with_scopes(claims), ..Context::default() });
        }
        for context in &mut self.contexts {
            // A claim without an issuer is in no token.
            if let (false, Some(claims)) = (context.claims.is_empty(), self.tokens.first()) {
                let mut whole = with_scopes(claims);
                whole.extend(std::mem::take(&mut context.claims));
                context.claims = whole;
            }
        }
        all.append(&mut self.contexts);
        let mut out: Vec<Context> = Vec::new();
        for context in all {
            if out.len() < CONTEXTS_MAX && !out.contains(&context) {
                out.push(context);
            }
        }
        out
    }
}

/// What a source asks beside who is calling, as conditions.
fn source_conditions(rule: &Rule) -> impl Iterator<Item = Condition> + '_ {
    rule.from.iter().flat_map(|source| {
        let of = |key: &str, values: &[String], not_values: &[String]| Condition {
            key: key.to_owned(),
            values: values.to_vec(),
            not_values: not_values.to_vec(),
        };
        let all = [
            of("source.ip", &source.ip_blocks, &source.not_ip_blocks),
            of("remote.ip", &source.remote_ip_blocks, &source.not_remote_ip_blocks),
            of("request.auth.principal", &source.request_principals, &source.not_request_principals),
        ];
        all.into_iter().filter(|c| !c.values.is_empty() || !c.not_values.is_empty())
    })
}

fn is_about_caller(key: &str) -> bool {
    matches!(key, "source.principal" | "source.namespace" | "source.trustDomain" | "source.serviceAccount")
}

impl Context {
    /// Makes the request fit a value of a condition.
    fn set(&mut self, key: &str, value: &str) {
        let text = fill::text(value);
        match key {
            "host" | "request.headers[:authority]" | "request.headers[host]" => self.host = Some(text),
            "destination.port" => self.port = value.parse().ok(),
            "source.ip" => self.source_ip = address(value),
            "remote.ip" => self.remote_ip = address(value),
            "destination.ip" => self.destination_ip = address(value),
            "connection.sni" => self.sni = Some(text),
            "request.auth.principal" => self.principal(value),
            "request.auth.audiences" => self.claim(&["aud"], text),
            "request.auth.presenter" => self.claim(&["azp"], text),
            key => {
                let names = key.strip_prefix("request.auth.claims[").and_then(|rest| rest.strip_suffix(']'));
                let header = key.strip_prefix("request.headers[").and_then(|rest| rest.strip_suffix(']'));
                if let Some(names) = names {
                    self.claim(&names.split("][").collect::<Vec<_>>(), text);
                } else if let Some(header) = header.filter(|name| !name.starts_with(':')) {
                    self.headers.insert(header.to_ascii_lowercase(), text);
                }
            }
        }
    }

    /// `iss/sub`; of a pattern what it tells of the issuer.
    fn principal(&mut self, value: &str) {
        let text = fill::text(value);
        if let Some((issuer, subject)) = text.rsplit_once('/').filter(|_| value != "*") {
            self.claim(&["iss"], issuer.to_owned());
            self.claim(&["sub"], subject.to_owned());
        } else {
            self.claim(&["sub"], OTHER.to_owned());
        }
    }

    fn claim(&mut self, path: &[&str], value: String) {
        let Some((last, parents)) = path.split_last() else { return };
        let mut at = &mut self.claims;
        for name in parents {
            let inner = at.entry(*name).or_insert_with(|| Value::Object(Map::new()));
            let Value::Object(map) = inner else { return };
            at = map;
        }
        at.insert((*last).to_owned(), Value::from(value));
    }

    pub(super) fn question(&self, caller: Option<SpiffeId>) -> Question {
        let mut question = Question::new(caller, self.port.unwrap_or(PORT));
        question.host.clone_from(&self.host);
        for (name, value) in &self.headers {
            let name = HeaderName::from_bytes(name.as_bytes());
            if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(value)) {
                question.headers.append(name, value);
            }
        }
        if !self.claims.is_empty() {
            question.token = GivenToken::Claims(self.claims.clone());
        }
        question.source_ip = self.source_ip.unwrap_or(question.source_ip);
        question.remote_ip = self.remote_ip;
        question.destination_ip = self.destination_ip.unwrap_or(question.destination_ip);
        question.sni.clone_from(&self.sni);
        question
    }

    /// `port 9000, header x-role: clerk`; empty for the context that has nothing.
    pub(super) fn shown(&self) -> String {
        let mut parts = Vec::new();
        parts.extend(self.port.map(|port| format!("port {port}")));
        parts.extend(self.host.as_ref().map(|host| format!("host {host}")));
        parts.extend(self.headers.iter().map(|(name, value)| format!("header {name}: {value}")));
        if !self.claims.is_empty() {
            parts.push(format!("token {}", Value::Object(self.claims.clone())));
        }
        parts.extend(self.source_ip.map(|ip| format!("source address {ip}")));
        parts.extend(self.remote_ip.map(|ip| format!("client address {ip}")));
        parts.extend(self.destination_ip.map(|ip| format!("destination address {ip}")));
        parts.extend(self.sni.as_ref().map(|name| format!("SNI {name}")));
        parts.join(", ")
    }
}

/// The first address of a block.
fn address(block: &str) -> Option<IpAddr> {
    let net = block.parse::<IpNet>().map(|net| net.network());
    net.ok().or_else(|| block.parse().ok())
}
