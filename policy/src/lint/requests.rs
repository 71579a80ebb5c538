//! Sets of requests: what a route takes, and what a rule of a policy is about.

use super::pattern::Pattern;
use crate::kind::authorization_policy::{Operation, Rule};
use crate::kind::request_match::MatchItem;

/// A part of what a route takes. What else the route asks for (headers, query) leaves fewer requests, never more.
#[derive(Clone, Debug)]
pub(crate) struct Requests<'r> {
    pub(crate) host: Pattern,
    pub(crate) method: Pattern,
    pub(crate) path: Pattern,
    /// The id of the route, `namespace/virtualservice/name-or-index`.
    pub(crate) route: &'r str,
}

/// What a rule is about. Empty lists are about everything.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scope {
    hosts: Vec<Pattern>,
    not_hosts: Vec<Pattern>,
    pub(crate) methods: Vec<Pattern>,
    not_methods: Vec<Pattern>,
    pub(crate) paths: Vec<Pattern>,
    not_paths: Vec<Pattern>,
    routes: Vec<String>,
    /// It asks for something that is not looked at here, so it may be about less.
    asks_more: bool,
}

impl Scope {
    pub(crate) fn of_operation(operation: &Operation) -> Self {
        let o = operation;
        Self {
            hosts: hosts(&o.hosts),
            not_hosts: hosts(&o.not_hosts),
            methods: texts(&o.methods),
            not_methods: texts(&o.not_methods),
            paths: paths(&o.paths),
            not_paths: paths(&o.not_paths),
            routes: Vec::new(),
            // A host with a port is about that spelling alone.
            asks_more: !o.ports.is_empty() || !o.not_ports.is_empty() || o.hosts.iter().any(|h| has_port(h)),
        }
    }

    /// The alternatives of a rule of AuthorizationPolicy.
    pub(crate) fn of_rule(rule: &Rule) -> Vec<Self> {
        match rule.to.is_empty() {
            true => vec![Self::default()],
            false => rule.to.iter().map(Self::of_operation).collect(),
        }
    }

    /// The alternatives of a `match` of our own kinds.
    pub(crate) fn of_match(items: &[MatchItem]) -> Vec<Self> {
        if items.is_empty() {
            return vec![Self::default()];
        }
        let scope = |item: &MatchItem| Self {
            hosts: hosts(&item.hosts),
            methods: texts(&item.methods),
            paths: paths(&item.paths),
            routes: item.routes.clone(),
            asks_more: item.hosts.iter().any(|h| has_port(h)),
            ..Self::default()
        };
        items.iter().map(scope).collect()
    }

    /// Whether it is surely about all of these requests.
    pub(crate) fn covers(&self, requests: &Requests<'_>) -> bool {
        let within = |list: &[Pattern], one: &Pattern| list.is_empty() || list.iter().any(|p| p.covers(one));
        let apart = |list: &[Pattern], one: &Pattern| !list.iter().any(|p| p.overlaps(one));
        !self.asks_more
            && within(&self.hosts, &requests.host)
            && within(&self.methods, &requests.method)
            && within(&self.paths, &requests.path)
            && apart(&self.not_hosts, &requests.host)
            && apart(&self.not_methods, &requests.method)
            && apart(&self.not_paths, &requests.path)
            && self.has_route(requests.route)
    }

    /// Whether it may be about some of these requests.
    pub(crate) fn overlaps(&self, requests: &Requests<'_>) -> bool {
        let some = |list: &[Pattern], one: &Pattern| list.is_empty() || list.iter().any(|p| p.overlaps(one));
        let all_out = |list: &[Pattern], one: &Pattern| list.iter().any(|p| p.covers(one));
        some(&self.hosts, &requests.host)
            && some(&self.methods, &requests.method)
            && some(&self.paths, &requests.path)
            && !all_out(&self.not_methods, &requests.method)
            && !all_out(&self.not_paths, &requests.path)
            && self.has_route(requests.route)
    }

    fn has_route(&self, id: &str) -> bool {
        let name = id.rsplit('/').next().unwrap_or(id);
        self.routes.is_empty() || self.routes.iter().any(|route| route == id || route == name)
    }
}

fn texts(values: &[String]) -> Vec<Pattern> {
    values.iter().map(|value| Pattern::text(value)).collect()
}

fn paths(values: &[String]) -> Vec<Pattern> {
    values.iter().map(|value| Pattern::path(value)).collect()
}

fn hosts(values: &[String]) -> Vec<Pattern> {
    values.iter().map(|value| Pattern::host_text(value)).collect()
}

fn has_port(host: &str) -> bool {
    host.contains(':') && !host.ends_with(']')
}
