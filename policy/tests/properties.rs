//! What holds for every set of policies and every request.

#![expect(clippy::unwrap_used, reason = "test code")]

mod support;

use palisade_policy::document::{SourceFile, parse};
use palisade_policy::kind::authorization_policy::{Action, Condition, Operation, Rule, Source};
use palisade_policy::kind::{AuthorizationPolicySpec, Meta, Object, Spec};
use palisade_policy::projection::could_ever_allow;
use palisade_policy::{Decision, PolicySet, Snapshot};
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
    (vec(source(), 0..3), vec(operation(), 0..3), vec(condition(), 0..3)).prop_map(|(from, to, when)| Rule {
        from,
        to,
        when,
    })
}

/// Something is always said: a part that says nothing is refused.
fn source() -> impl Strategy<Value = Source> {
    let users = &["i/s", "i/*", "*"];
    let texts = (some_of(PRINCIPALS), some_of(PRINCIPALS), some_of(&["bank", "other", "b*k"]));
    (texts, some_of(users), some_of(users), some_of(&["10.0.0.0/8", "192.0.2.1"])).prop_map(
        |(
            (principals, not_principals, mut namespaces),
            request_principals,
            not_request_principals,
            ip_blocks,
        )| {
            let others =
                [&principals, &not_principals, &request_principals, &not_request_principals, &ip_blocks];
            if namespaces.is_empty() && others.iter().all(|list| list.is_empty()) {
                namespaces.push("bank".into());
            }
            Source {
                principals,
                not_principals,
                request_principals,
                not_request_principals,
                namespaces,
                ip_blocks,
                ..Source::default()
            }
        },
    )
}

fn operation() -> impl Strategy<Value = Operation> {
    let paths = &["/a", "/a*", "*", "/{*}", "/a/{**}"];
    let texts = (some_of(&["GET", "POST", "*"]), some_of(paths), some_of(paths), some_of(&["h", "*.h"]));
    let ports = &["8080", "5432"];
    (texts, some_of(&["h"]), some_of(ports), some_of(ports)).prop_map(
        |((mut methods, paths, not_paths, hosts), not_hosts, ports, not_ports)| {
            let others = [&paths, &not_paths, &hosts, &not_hosts, &ports, &not_ports];
            if methods.is_empty() && others.iter().all(|list| list.is_empty()) {
                methods.push("GET".into());
            }
            Operation {
                methods,
                paths,
                not_paths,
                hosts,
                not_hosts,
                ports,
                not_ports,
                ..Operation::default()
            }
        },
    )
}

const CONDITIONS: &[(&str, &[&str])] = &[
    ("request.headers[x-a]", &["a", "b", "*"]),
    ("request.headers[:method]", &["GET", "*"]),
    ("request.auth.claims[g]", &["x", "y", "*"]),
    ("source.namespace", &["bank", "*"]),
    ("remote.ip", &["203.0.113.0/24", "192.0.2.1"]),
    ("destination.port", &["8080", "5432"]),
    ("connection.sni", &["*.h", "h"]),
];

fn condition() -> impl Strategy<Value = Condition> {
    let values = |values: &'static [&'static str]| vec(select(values), 1..3);
    select(CONDITIONS).prop_flat_map(move |(key, known)| {
        (values(known), any::<bool>()).prop_map(move |(texts, negated)| {
            let texts: Vec<String> = texts.into_iter().map(Into::into).collect();
            let (values, not_values) = if negated { (Vec::new(), texts) } else { (texts, Vec::new()) };
            Condition { key: key.into(), values, not_values }
        })
    })
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
    let tokens =
        vec![None, Some(r#"{"iss":"i","sub":"s","g":["x","z"]}"#), Some(r#"{"iss":"i","sub":"t","g":"y"}"#)];
    let line = (
        select(vec!["GET", "PUT"]),
        select(vec!["/a", "/ab", "/", "/a/x=1"]),
        select(vec!["h", "H:80", "x.h", "h."]),
    );
    let connection = (
        select(peers),
        select(vec![8080, 5432]),
        select(vec!["10.1.2.3", "192.0.2.1"]),
        select(vec![None, Some("h"), Some("x.h")]),
    );
    (connection, line, vec(select(vec!["a", "b", ""]), 0..3), select(tokens)).prop_map(
        |((peer, port, source, sni), (method, path, host), values, token)| {
            let ask = Ask::new().method(method).path(path).host(host).port(port).source(source);
            let ask = values.into_iter().fold(ask, |ask, value| ask.header("x-a", value));
            let ask = sni.into_iter().fold(ask, Ask::sni);
            let ask = token.into_iter().fold(ask, Ask::token);
            match peer {
                Some(peer) => ask.peer(peer),
                None => ask.plaintext(),
            }
        },
    )
}

/// Whether the request is let in, and whether its connection is, were the port raw TCP.
fn let_in(ask: &Ask, policies: &[AuthorizationPolicySpec]) -> [bool; 2] {
    let snapshot = compiled(policies);
    let connection = snapshot.authorize_tcp(&ask.connection());
    [ask.allowed(&snapshot), matches!(connection, Decision::Allow { .. })]
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
        let before = let_in(&ask, &policies);
        let deny = AuthorizationPolicySpec { action: Action::Deny, rules, ..Default::default() };
        let after = let_in(&ask, &[policies, vec![deny]].concat());
        prop_assert!(before[0] >= after[0] && before[1] >= after[1], "{before:?} {after:?}");
    }

    /// Where an ALLOW policy is there already; the first one switches to deny by default.
    #[test]
    fn another_allow_rule_never_allows_less(mut policies in vec(policy(), 1..4), rule in rule(), ask in ask()) {
        policies[0].action = Action::Allow;
        let before = let_in(&ask, &policies);
        policies[0].rules.push(rule);
        let after = let_in(&ask, &policies);
        prop_assert!(before[0] <= after[0] && before[1] <= after[1], "{before:?} {after:?}");
    }

    #[test]
    fn the_order_of_policies_and_rules_decides_nothing(mut policies in vec(policy(), 0..4), ask in ask()) {
        let before = let_in(&ask, &policies);
        policies.reverse();
        policies.iter_mut().for_each(|p| p.rules.reverse());
        prop_assert_eq!(before, let_in(&ask, &policies));
    }

    /// Rules lose what they cannot see on a TCP port so that less is let in, never more.
    #[test]
    fn what_a_tcp_port_lets_in_is_let_in_with_every_request(policies in vec(policy(), 0..4), ask in ask()) {
        let [request, connection] = let_in(&ask, &policies);
        prop_assert!(request || !connection);
    }

    #[test]
    fn audit_policies_decide_nothing(policies in vec(policy(), 0..3), rules in vec(rule(), 1..3), ask in ask()) {
        let audit = AuthorizationPolicySpec { action: Action::Audit, rules, ..Default::default() };
        let before = let_in(&ask, &policies);
        prop_assert_eq!(before, let_in(&ask, &[policies, vec![audit]].concat()));
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
