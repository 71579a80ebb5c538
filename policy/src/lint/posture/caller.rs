//! Who a source of an AuthorizationPolicy is, and whether an edge is among them.

use super::super::pattern::Pattern;
use super::upstream::EdgeAccess;
use crate::kind::authorization_policy::{Condition, Rule, Source};

/// The service account that an edge is taken to have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Account<'a> {
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
}

/// Whom a rule lets in, as it is written; empty: anyone. `namespace` is the policy's own.
pub(super) fn callers(rule: &Rule, namespace: &str) -> Vec<String> {
    let by_condition: Vec<String> = rule.when.iter().filter_map(condition).collect();
    if rule.from.is_empty() {
        return by_condition;
    }
    let mut out = Vec::new();
    for source in &rule.from {
        let mut names = names(source, namespace);
        if names.is_empty() {
            names.clone_from(&by_condition);
        }
        // One alternative that names nobody lets everybody in.
        if names.is_empty() {
            return Vec::new();
        }
        out.extend(names);
    }
    out
}

fn names(source: &Source, namespace: &str) -> Vec<String> {
    let s = source;
    let mut out = s.principals.clone();
    if out.is_empty() {
        out.extend(s.service_accounts.iter().map(|name| account(name, namespace)));
    }
    let others = [
        ("namespace", &s.namespaces),
        ("trust domain", &s.trust_domains),
        ("user", &s.request_principals),
        ("address", &s.ip_blocks),
        ("client address", &s.remote_ip_blocks),
        ("all but", &s.not_principals),
        ("all but accounts", &s.not_service_accounts),
        ("all but namespaces", &s.not_namespaces),
    ];
    for (what, values) in others {
        if out.is_empty() && !values.is_empty() {
            out.push(format!("{what} {}", values.join(", ")));
        }
    }
    out
}

fn account(name: &str, namespace: &str) -> String {
    let (namespace, name) = name.split_once('/').unwrap_or((namespace, name));
    format!("*/ns/{namespace}/sa/{name}")
}

fn condition(condition: &Condition) -> Option<String> {
    let what = match condition.key.as_str() {
        "source.principal" => "",
        "source.namespace" => "namespace ",
        "source.serviceAccount" => "account ",
        "source.trustDomain" => "trust domain ",
        "source.ip" => "address ",
        key if key.starts_with("request.auth.") => "user with ",
        _ => return None,
    };
    let values = condition.values.join(" | ");
    (!condition.values.is_empty()).then(|| format!("{what}{values}"))
}

/// Whether a rule lets an edge in, as far as its identity goes.
pub(super) fn lets_in(rule: &Rule, namespace: &str, edge: Option<Account<'_>>) -> EdgeAccess {
    let Some(edge) = edge else {
        return if callers(rule, namespace).is_empty() { EdgeAccess::Yes } else { EdgeAccess::Unknown };
    };
    let source = |s: &Source| fits(s, namespace, edge);
    let asked = |c: &Condition| c.values.is_empty() || fits_condition(c, edge);
    let yes = (rule.from.is_empty() || rule.from.iter().any(source)) && rule.when.iter().all(asked);
    if yes { EdgeAccess::Yes } else { EdgeAccess::No }
}

fn fits(s: &Source, namespace: &str, edge: Account<'_>) -> bool {
    let full = format!("*/ns/{}/sa/{}", edge.namespace, edge.name);
    let some = |list: &[String], one: &dyn Fn(&str) -> bool| list.is_empty() || list.iter().any(|v| one(v));
    let none = |list: &[String], one: &dyn Fn(&str) -> bool| !list.iter().any(|v| one(v));
    let of_account = |name: &str| account(name, namespace) == full;
    let of_namespace = |value: &str| Pattern::text(value).matches(edge.namespace);
    let of_principal = |value: &str| principal(value, edge);
    some(&s.principals, &of_principal)
        && none(&s.not_principals, &of_principal)
        && some(&s.service_accounts, &of_account)
        && none(&s.not_service_accounts, &of_account)
        && some(&s.namespaces, &of_namespace)
        && none(&s.not_namespaces, &of_namespace)
}

fn fits_condition(condition: &Condition, edge: Account<'_>) -> bool {
    match condition.key.as_str() {
        "source.principal" => condition.values.iter().any(|value| principal(value, edge)),
        "source.namespace" => condition.values.iter().any(|v| Pattern::text(v).matches(edge.namespace)),
        _ => true,
    }
}

/// Whether a principal may be the edge's, whatever the trust domain, which documents do not tell.
pub(super) fn principal(value: &str, edge: Account<'_>) -> bool {
    let own = format!("ns/{}/sa/{}", edge.namespace, edge.name);
    match value.split_once('/') {
        Some((_domain, rest)) if !value.starts_with('*') => Pattern::text(rest).matches(&own),
        _ => Pattern::text(value).overlaps(&Pattern::text(&format!("*/{own}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edge_is_known_by_namespace_and_account_in_every_trust_domain() {
        let edge = Account { namespace: "bank", name: "edge" };
        let rows = [
            ("corp.example/ns/bank/sa/edge", true),
            ("*/ns/bank/sa/edge", true),
            ("*/sa/edge", true),
            ("*", true),
            ("corp.example/*", true),
            ("corp.example/ns/bank/*", true),
            ("corp*", true),
            ("corp.example/ns/bank/sa/edge2", false),
            ("corp.example/ns/bank/sa/edg", false),
            ("corp.example/ns/other/sa/edge", false),
            ("corp.example/ns/other/*", false),
            ("*/sa/payments", false),
        ];
        for (value, expected) in rows {
            assert_eq!(principal(value, edge), expected, "{value}");
        }
    }

    #[test]
    fn one_alternative_that_names_nobody_is_everybody() {
        let named = Source { principals: vec!["a/ns/b/sa/c".into()], ..Source::default() };
        let rule = |from: Vec<Source>| Rule { from, ..Rule::default() };
        assert_eq!(callers(&rule(vec![named.clone()]), "b"), ["a/ns/b/sa/c"]);
        assert!(callers(&rule(vec![named, Source::default()]), "b").is_empty());
        let account = Source { service_accounts: vec!["x".into(), "n/y".into()], ..Source::default() };
        assert_eq!(callers(&rule(vec![account]), "b"), ["*/ns/b/sa/x", "*/ns/n/sa/y"]);
    }
}
