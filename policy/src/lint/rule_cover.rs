//! Whether one rule of AuthorizationPolicy surely matches whatever another one matches.

use ipnet::IpNet;

use super::pattern::Pattern;
use crate::kind::authorization_policy::{Condition, Operation, Rule, Source};

/// A rule with the namespace that its short names are of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Named<'r> {
    pub(super) rule: &'r Rule,
    pub(super) namespace: &'r str,
}

impl Named<'_> {
    pub(super) fn covers(&self, other: &Self) -> bool {
        let (wide, narrow) = (self.rule, other.rule);
        let source = |b: &Source| wide.from.iter().any(|a| self.source_covers(a, b, other.namespace));
        let operation = |b: &Operation| wide.to.iter().any(|a| operation_covers(a, b));
        let condition = |a: &Condition| narrow.when.iter().any(|b| condition_covers(a, b));
        // An absent part is about everything, so only an absent one covers it.
        (wide.from.is_empty() || (!narrow.from.is_empty() && narrow.from.iter().all(source)))
            && (wide.to.is_empty() || (!narrow.to.is_empty() && narrow.to.iter().all(operation)))
            && wide.when.iter().all(condition)
    }

    fn source_covers(&self, a: &Source, b: &Source, namespace: &str) -> bool {
        let full = |names: &[String], own: &str| -> Vec<String> {
            let name = |n: &String| if n.contains('/') { n.clone() } else { format!("{own}/{n}") };
            names.iter().map(name).collect()
        };
        let accounts = |s: &Source, own| (full(&s.service_accounts, own), full(&s.not_service_accounts, own));
        let (ours, theirs) = (accounts(a, self.namespace), accounts(b, namespace));
        lists(&ours.0, &theirs.0, equal)
            && nots(&ours.1, &theirs.1, equal)
            && lists(&a.principals, &b.principals, text)
            && nots(&a.not_principals, &b.not_principals, text)
            && lists(&a.request_principals, &b.request_principals, text)
            && nots(&a.not_request_principals, &b.not_request_principals, text)
            && lists(&a.namespaces, &b.namespaces, text)
            && nots(&a.not_namespaces, &b.not_namespaces, text)
            && lists(&a.trust_domains, &b.trust_domains, text)
            && nots(&a.not_trust_domains, &b.not_trust_domains, text)
            && lists(&a.ip_blocks, &b.ip_blocks, block)
            && nots(&a.not_ip_blocks, &b.not_ip_blocks, block)
            && lists(&a.remote_ip_blocks, &b.remote_ip_blocks, block)
            && nots(&a.not_remote_ip_blocks, &b.not_remote_ip_blocks, block)
    }
}

fn operation_covers(a: &Operation, b: &Operation) -> bool {
    lists(&a.methods, &b.methods, text)
        && nots(&a.not_methods, &b.not_methods, text)
        && lists(&a.paths, &b.paths, path)
        && nots(&a.not_paths, &b.not_paths, path)
        && lists(&a.hosts, &b.hosts, host)
        && nots(&a.not_hosts, &b.not_hosts, host)
        && lists(&a.ports, &b.ports, equal)
        && nots(&a.not_ports, &b.not_ports, equal)
}

fn condition_covers(a: &Condition, b: &Condition) -> bool {
    // Whether a value is a pattern depends on the key; equal values are equal under every key.
    a.key == b.key && lists(&a.values, &b.values, equal) && nots(&a.not_values, &b.not_values, equal)
}

/// `x`: each value of the narrower list is one of the wider; an absent list takes everything.
fn lists(wide: &[String], narrow: &[String], covers: fn(&str, &str) -> bool) -> bool {
    let found = |one: &String| wide.iter().any(|pattern| covers(pattern, one));
    wide.is_empty() || (!narrow.is_empty() && narrow.iter().all(found))
}

/// `notX`: whatever the wider one excepts, the narrower one excepts too.
fn nots(wide: &[String], narrow: &[String], covers: fn(&str, &str) -> bool) -> bool {
    wide.iter().all(|excepted| narrow.iter().any(|pattern| covers(pattern, excepted)))
}

fn equal(a: &str, b: &str) -> bool {
    a == b
}

fn text(a: &str, b: &str) -> bool {
    Pattern::text(a).covers(&Pattern::text(b))
}

fn path(a: &str, b: &str) -> bool {
    Pattern::path(a).covers(&Pattern::path(b))
}

fn host(a: &str, b: &str) -> bool {
    Pattern::text(a).folded().covers(&Pattern::text(b).folded())
}

fn block(a: &str, b: &str) -> bool {
    let parse = |text: &str| -> Option<IpNet> {
        text.parse().ok().or_else(|| Some(IpNet::from(text.parse::<std::net::IpAddr>().ok()?)))
    };
    match (parse(a), parse(b)) {
        (Some(a), Some(b)) => a.contains(&b),
        _ => a == b,
    }
}
