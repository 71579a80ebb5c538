//! Policies and requests at random, of so few words that they often meet.

use palisade_policy::PolicySet;
use palisade_policy::kind::authorization_policy::{Action, Condition, Operation, Rule, Source};
use palisade_policy::kind::{AuthorizationPolicySpec, Meta, Object, Spec};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::Ask;

fn texts(values: &'static [&'static str]) -> impl Strategy<Value = Vec<String>> {
    vec(select(values), 0..3).prop_map(|values| values.into_iter().map(Into::into).collect())
}

fn rule() -> impl Strategy<Value = Rule> {
    let principals = || texts(&["corp.example/ns/bank/sa/payments", "*/sa/payments", "corp.example/*", "*"]);
    let source = (principals(), principals(), texts(&["bank", "b*", "other"])).prop_map(
        |(principals, not_principals, mut namespaces)| {
            if principals.is_empty() && not_principals.is_empty() && namespaces.is_empty() {
                namespaces.push("bank".into());
            }
            Source { principals, not_principals, namespaces, ..Source::default() }
        },
    );
    let operation = (texts(&["GET", "P*"]), texts(&["/a", "/a*", "/{*}", "/a/{**}"]), texts(&["h", "*.h"]));
    let operation = operation.prop_map(|(mut methods, paths, not_hosts)| {
        if methods.is_empty() && paths.is_empty() && not_hosts.is_empty() {
            methods.push("GET".into());
        }
        Operation { methods, paths, not_hosts, ..Operation::default() }
    });
    let condition = (texts(&["x", "y*"]), texts(&["x", "*"])).prop_map(|(mut values, not_values)| {
        if values.is_empty() && not_values.is_empty() {
            values.push("x".into());
        }
        Condition { key: "request.headers[x-role]".into(), values, not_values }
    });
    (vec(source, 0..3), vec(operation, 0..3), vec(condition, 0..2)).prop_map(|(from, to, when)| Rule {
        from,
        to,
        when,
    })
}

/// Policies of the namespace `bank` without selectors.
pub fn set() -> impl Strategy<Value = PolicySet> {
    let action = || select(vec![Action::Allow, Action::Deny, Action::Audit]);
    let policy = (action(), vec(rule(), 1..4), any::<bool>());
    vec(policy, 0..5).prop_map(|policies| {
        let object = |(i, (action, rules, dry_run)): (usize, (Action, Vec<Rule>, bool))| Object {
            meta: Meta {
                namespace: "bank".into(),
                name: format!("p{i}"),
                // An AUDIT has none.
                annotations: (dry_run && action != Action::Audit)
                    .then(|| ("istio.io/dry-run".to_owned(), "true".to_owned()))
                    .into_iter()
                    .collect(),
                ..Meta::default()
            },
            spec: Spec::AuthorizationPolicy(AuthorizationPolicySpec { action, rules, ..Default::default() }),
            position: None,
            text: String::new(),
        };
        PolicySet::new(policies.into_iter().enumerate().map(object).collect(), &[]).unwrap().0
    })
}

/// Requests that such policies may be about.
pub fn request() -> impl Strategy<Value = Ask> {
    let peers =
        vec!["", "corp.example/ns/bank/sa/payments", "corp.example/ns/other/sa/payments", "x.example/a"];
    let parts = (
        select(peers),
        select(vec!["GET", "PUT"]),
        select(vec!["/a", "/ab", "/a/", "/a/b"]),
        select(vec!["h", "H:80", "x.h."]),
        vec(select(vec!["x", "yes", ""]), 0..3),
    );
    parts.prop_map(|(peer, method, path, host, roles)| {
        let ask = Ask::new().method(method).path(path).host(host);
        let ask = roles.into_iter().fold(ask, |ask, role| ask.header("x-role", role));
        if peer.is_empty() { ask.plaintext() } else { ask.peer(peer) }
    })
}
