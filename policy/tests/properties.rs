//! What holds for every set of policies and every request.

#![expect(clippy::unwrap_used, reason = "test code")]

mod support;

use palisade_policy::document::{SourceFile, parse};
use palisade_policy::kind::authorization_policy::{Action, Operation, Rule, Source};
use palisade_policy::kind::{AuthorizationPolicySpec, Meta, Object, Spec};
use palisade_policy::projection::could_ever_allow;
use palisade_policy::{PolicySet, Snapshot};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use support::{Ask, id, snapshot, workload};

fn some_of(values: &'static [&'static str]) -> impl Strategy<Value = Vec<String>> {
    vec(select(values), 0..3).prop_map(|v| v.into_iter().map(Into::into).collect())
}

const PRINCIPALS: &[&str] =
    &["corp.example/ns/bank/sa/payments", "corp.example/ns/bank/sa/other", "*/sa/payments", "*"];

fn rule() -> impl Strategy<Value = Rule> {
    let source = (some_of(PRINCIPALS), some_of(PRINCIPALS), some_of(&["bank", "other", "b*"])).prop_map(
        |(principals, not_principals, mut namespaces)| {
            if principals.is_empty() && not_principals.is_empty() && namespaces.is_empty() {
                namespaces.push("bank".into());
            }
            Source { principals, not_principals, namespaces, ..Source::default() }
        },
    );
    let operation = (some_of(&["GET", "POST", "*"]), some_of(&["/a", "/a*", "*"]), some_of(&["h", "*.h"]))
        .prop_map(|(mut methods, not_paths, hosts)| {
            if methods.is_empty() && not_paths.is_empty() && hosts.is_empty() {
                methods.push("GET".into());
            }
            Operation { methods, not_paths, hosts, ..Operation::default() }
        });
    (vec(source, 0..3), vec(operation, 0..3)).prop_map(|(from, to)| Rule { from, to, when: Vec::new() })
}

fn policy() -> impl Strategy<Value = AuthorizationPolicySpec> {
    (select(vec![Action::Allow, Action::Deny]), vec(rule(), 1..4))
        .prop_map(|(action, rules)| AuthorizationPolicySpec { action, rules, ..Default::default() })
}

fn ask() -> impl Strategy<Value = Ask> {
    let peers = vec![
        None,
        Some("corp.example/ns/bank/sa/payments"),
        Some("corp.example/ns/other/sa/payments"),
        Some("corp.example/ns/bank/sa/x"),
    ];
    (
        select(peers),
        select(vec!["GET", "PUT"]),
        select(vec!["/a", "/ab", "/"]),
        select(vec!["h", "H:80", "x.h", "h."]),
    )
        .prop_map(|(peer, method, path, host)| {
            let ask = Ask::new().method(method).path(path).host(host);
            match peer {
                Some(peer) => ask.peer(peer),
                None => ask.plaintext(),
            }
        })
}

fn set(policies: &[AuthorizationPolicySpec]) -> PolicySet {
    let object = |(i, spec): (usize, &AuthorizationPolicySpec)| Object {
        meta: Meta { namespace: "bank".into(), name: format!("p{i}"), ..Meta::default() },
        spec: Spec::AuthorizationPolicy(spec.clone()),
        position: None,
        text: String::new(),
    };
    PolicySet::new(policies.iter().enumerate().map(object).collect(), &[]).unwrap().0
}

fn compiled(policies: &[AuthorizationPolicySpec]) -> Snapshot {
    snapshot(&set(policies), &[], &workload("bank", "ledger"))
}

fn quiet() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(quiet())]

    #[test]
    fn another_deny_never_allows_more(policies in vec(policy(), 0..4), rules in vec(rule(), 1..3), ask in ask()) {
        let before = ask.allowed(&compiled(&policies));
        let deny = AuthorizationPolicySpec { action: Action::Deny, rules, ..Default::default() };
        let after = ask.allowed(&compiled(&[policies, vec![deny]].concat()));
        prop_assert!(before || !after);
    }

    /// Where an ALLOW policy is there already; the first one switches to deny by default.
    #[test]
    fn another_allow_rule_never_allows_less(mut policies in vec(policy(), 1..4), rule in rule(), ask in ask()) {
        policies[0].action = Action::Allow;
        let before = ask.allowed(&compiled(&policies));
        policies[0].rules.push(rule);
        prop_assert!(!before || ask.allowed(&compiled(&policies)));
    }

    #[test]
    fn the_order_of_policies_and_rules_decides_nothing(mut policies in vec(policy(), 0..4), ask in ask()) {
        let before = ask.allowed(&compiled(&policies));
        policies.reverse();
        policies.iter_mut().for_each(|p| p.rules.reverse());
        prop_assert_eq!(before, ask.allowed(&compiled(&policies)));
    }

    /// A service is never hidden from a caller that it would let in.
    #[test]
    fn whoever_is_let_in_is_told_of_the_service(policies in vec(policy(), 0..4), ask in ask()) {
        if let Some(peer) = &ask.peer && ask.allowed(&compiled(&policies)) {
            prop_assert!(could_ever_allow(&set(&policies), &workload("bank", "ledger"), peer));
        }
    }

    #[test]
    fn arbitrary_text_never_panics(text in any::<String>()) {
        let _ = parse(&[SourceFile { name: "x".into(), text }]);
    }

    #[test]
    fn arbitrary_yaml_never_panics(text in "[a-c:{}\\[\\],&*!|>'\"%@#\\-? \n\té]{0,80}") {
        let files = [SourceFile { name: "x".into(), text }];
        let (_, findings) = parse(&files);
        let _ = findings.render(&files);
    }

    #[test]
    fn spoiled_documents_never_panic(at in 0usize..400, junk in "[ -~\n\u{e9}]{0,6}") {
        let mut text = String::from(include_str!("data/istio-authz/http/single-policy-in.yaml"));
        text.insert_str(at.min(text.len()), &junk);
        let files = [SourceFile { name: "x".into(), text }];
        let (objects, findings) = parse(&files);
        let _ = findings.render(&files);
        if !findings.has_errors() {
            let _ = PolicySet::new(objects, &[]);
        }
    }
}

#[test]
fn a_caller_that_is_always_denied_is_told_of_nothing() {
    let (denied, caller) = (id("corp.example/ns/other/sa/reports"), workload("bank", "ledger"));
    let allow = |rule: &str| {
        format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: p, namespace: bank}}\nspec: {rule}\n"
        )
    };
    let could = |spec: &str| could_ever_allow(&support::parse_ok(&allow(spec)).0, &caller, &denied);
    assert!(could("{rules: [{to: [{operation: {methods: [GET]}}]}]}"));
    assert!(could("{rules: [{from: [{source: {namespaces: [other]}}]}]}"));
    assert!(!could("{rules: [{from: [{source: {namespaces: [bank]}}]}]}"));
    assert!(!could("{}"));
    assert!(!could("{action: DENY, rules: [{from: [{source: {namespaces: [other]}}]}]}"));
    assert!(could(
        "{action: DENY, rules: [{from: [{source: {namespaces: [other]}}], to: [{operation: {methods: [PUT]}}]}]}"
    ));
}
