//! Who gains and who loses access between two sets.

#![expect(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod support;

use palisade_identity::TrustDomain;
use palisade_policy::PolicySet;
use palisade_policy::difference::{Change, Difference, REQUESTS_MAX, Replayer, compare, compare_changed};
use palisade_policy::explain::{Attribute, Verdict, verdict};
use palisade_policy::record::Record;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use support::arbitrary::{request, set};
use support::{Ask, parse_ok, snapshot, workload};

fn policy(name: &str, action: &str, rules: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}, namespace: bank}}\n\
         spec: {{selector: {{matchLabels: {{app: ledger}}}}, action: {action}, rules: {rules}}}\n---\n"
    )
}

const PAYMENTS: &str = "{from: [{source: {principals: [corp.example/ns/bank/sa/payments]}}]";

fn difference(old: &str, new: &str) -> Difference {
    let deny = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
                metadata: {name: default-deny, namespace: palisade-system}\nspec: {}\n---\n";
    let set = |text: &str| parse_ok(&format!("{deny}{text}")).0;
    let domain = TrustDomain::parse("corp.example").unwrap();
    let (old, new) = (set(old), set(new));
    let whole = compare(&old, &new, Some(&domain)).unwrap();
    // Services whose policies stay as they are have no part in it.
    let changed = compare_changed(&old, &new, Some(&domain), REQUESTS_MAX).unwrap();
    assert_eq!(changed.changes, whole.changes);
    assert!(changed.requests <= whole.requests);
    assert_eq!(compare_changed(&new, &new, Some(&domain), REQUESTS_MAX).unwrap(), Difference::default());
    let bounded = compare_changed(&old, &new, Some(&domain), 0).unwrap();
    assert_eq!((bounded.requests, bounded.changes.len()), (0, 0));
    assert_eq!(bounded.left_out.is_empty(), whole.changes.is_empty(), "left out and not named");
    whole
}

/// One line for each change: `+ service: callers: requests`.
fn lines(difference: &Difference) -> Vec<String> {
    let line = |c: &Change| {
        let sign = if c.gains { '+' } else { '-' };
        format!("{sign} {}: {}: {}", c.service, c.callers.join(" | "), c.requests.join(" | "))
    };
    difference.changes.iter().map(line).collect()
}

#[track_caller]
fn check(old: &str, new: &str, expected: &[&str]) {
    assert_eq!(lines(&difference(old, new)), expected);
}

#[test]
fn another_method_or_path_is_gained_by_whom_the_rule_names() {
    let rule = |to: &str| policy("ledger", "ALLOW", &format!("[{PAYMENTS}, to: [{{operation: {to}}}]}}]"));
    let old = rule("{methods: [GET], paths: [/entries]}");
    check(&old, &old, &[]);
    let wider = rule("{methods: [GET, POST], paths: [/entries]}");
    check(&old, &wider, &["+ bank/ledger: bank/payments: POST /entries"]);
    check(&wider, &old, &["- bank/ledger: bank/payments: POST /entries"]);
    check(&old, &rule("{methods: [GET]}"), &["+ bank/ledger: bank/payments: GET any other path"]);
    check(
        &rule("{methods: [GET], paths: ['/v1/*']}"),
        &rule("{methods: [GET], paths: ['/v1/{*}']}"),
        &["- bank/ledger: bank/payments: GET /v1/ (/v1/*) | GET /v1/anything-else/more (/v1/*)"],
    );
}

#[test]
fn what_a_narrower_rule_still_takes_is_taken_out_of_a_loss() {
    let rule = |path: &str| {
        policy("ledger", "ALLOW", &format!("[{PAYMENTS}, to: [{{operation: {{paths: ['{path}']}}}}]}}]"))
    };
    let lost = "- bank/ledger: bank/payments: any method of /balances/* but /balances/7";
    check(&rule("/balances/*"), &rule("/balances/7"), &[lost]);
}

#[test]
fn what_stands_for_all_others_is_named_so() {
    let named = policy("ledger", "ALLOW", &format!("[{PAYMENTS}}}]"));
    let everybody = policy("ledger", "ALLOW", "[{}]");
    check(
        &named,
        &everybody,
        &[
            "+ bank/ledger: anybody else of namespace bank | bank/ledger | anybody else | callers without a certificate: \
         every request",
        ],
    );
    check("", &named, &["+ bank/ledger: bank/payments: every request"]);
    let namespace = policy("ledger", "ALLOW", "[{from: [{source: {namespaces: [bank]}}]}]");
    check(
        &named,
        &namespace,
        &["+ bank/ledger: anybody else of namespace bank | bank/ledger: every request"],
    );
}

#[test]
fn a_change_under_a_condition_is_told_with_it() {
    let rule = |when: &str| policy("ledger", "ALLOW", &format!("[{PAYMENTS}, when: [{when}]}}]"));
    let role = |values: &str| rule(&format!("{{key: 'request.headers[x-role]', values: [{values}]}}"));
    check(
        &role("clerk"),
        &role("clerk, auditor"),
        &["+ bank/ledger: bank/payments: every request with header x-role: auditor"],
    );
    let ip = |blocks: &str| rule(&format!("{{key: source.ip, values: [{blocks}]}}"));
    check(
        &ip("10.0.0.0/8, 192.168.0.0/16"),
        &ip("10.0.0.0/8"),
        &["- bank/ledger: bank/payments: every request with source address 192.168.0.0"],
    );
    let ports = |list: &str| {
        policy("ledger", "ALLOW", &format!("[{PAYMENTS}, to: [{{operation: {{ports: [{list}]}}}}]}}]"))
    };
    check(
        &ports("'9000'"),
        &ports("'9000', '9001'"),
        &["+ bank/ledger: bank/payments: every request with port 9001"],
    );
}

#[test]
fn a_set_that_lets_in_everybody_for_want_of_any_allow_policy_is_a_gain() {
    let only_deny = policy("no-admin", "DENY", "[{to: [{operation: {paths: [/admin]}}]}]");
    let domain = TrustDomain::parse("corp.example").unwrap();
    let old = parse_ok(&format!("{}{only_deny}", policy("ledger", "ALLOW", &format!("[{PAYMENTS}}}]")))).0;
    let new = parse_ok(&only_deny).0;
    let found = compare(&old, &new, Some(&domain)).unwrap();
    let gained: Vec<_> = found.changes.iter().map(|c| (c.gains, c.requests.clone())).collect();
    assert_eq!(gained, [(true, vec!["any method of any other path".to_owned()])]);
    assert_eq!(found.changes.iter().map(|c| c.rule.clone()).collect::<Vec<_>>(), [None]);
}

#[test]
fn strict_mtls_is_a_loss_for_callers_without_a_certificate() {
    let open = policy("ledger", "ALLOW", "[{}]");
    let strict = format!(
        "{open}apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: s, namespace: bank}}\n\
         spec: {{mtls: {{mode: STRICT}}}}\n"
    );
    let found = difference(&open, &strict);
    assert_eq!(lines(&found), ["- bank/ledger: callers without a certificate: every request"]);
    assert_eq!(found.changes.first().unwrap().refused, "plaintext_refused");
}

fn others(old: &PolicySet, new: &PolicySet) -> Difference {
    compare(old, new, Some(&TrustDomain::parse("corp.example").unwrap())).unwrap_or_else(|e| panic!("{e}"))
}

proptest! {
    // The same requests each time: of combinations of conditions from several rules the comparison knows nothing.
    #![proptest_config(ProptestConfig {
        failure_persistence: None, cases: 128, rng_seed: RngSeed::Fixed(5), ..ProptestConfig::default()
    })]

    /// The requests that stand for all miss no change that a request at random finds.
    #[test]
    fn whoever_gains_or_loses_is_found(old in set(), new in set(), ask in request()) {
        // TLS refuses whoever is of another trust domain.
        prop_assume!(ask.peer.as_ref().is_none_or(|peer| peer.trust_domain().as_str() == "corp.example"));
        let ledger = workload("bank", "ledger");
        let judged = |set: &PolicySet| ask.allowed(&snapshot(set, &[], &ledger));
        let (before, after) = (judged(&old), judged(&new));
        let found = others(&old, &new);
        prop_assert!(found.left_out.is_empty());
        if before != after {
            prop_assert!(found.changes.iter().any(|change| change.gains == after), "{:?}", found.changes);
        }
        prop_assert!(others(&old, &old).changes.is_empty());
    }
}

fn record(decision: &str, reason: &str, caller: &str, method: &str, path: &str) -> Record {
    let line = serde_json::json!({
        "decision_id": format!("{caller}-{method}"), "direction": "inbound", "decision": decision, "reason": reason,
        "source_principal": format!("spiffe://corp.example/ns/bank/sa/{caller}"),
        "destination_principal": "spiffe://corp.example/ns/bank/sa/ledger", "request_principal": null,
        "source_address": "10.1.2.3:5000", "method": method, "authority": "ledger.bank:8080", "path": path,
        "policy": null, "rule": null, "policy_version": 1, "upstream_cluster": "inbound|8080||",
    });
    Record::parse(&line.to_string()).unwrap()
}

#[test]
fn recorded_requests_are_judged_again_and_what_cannot_be_known_is_counted_apart() {
    let rule = |operation: &str, when: &str| {
        policy("ledger", "ALLOW", &format!("[{PAYMENTS}, to: [{{operation: {operation}}}]{when}}}]"))
    };
    let old = parse_ok(&rule("{methods: [GET, POST, PUT]}", "")).0;
    let role = ", when: [{key: 'request.headers[x-role]', values: [clerk]}]";
    let new = parse_ok(&format!(
        "{}{}",
        rule("{methods: [GET]}", ""),
        rule("{methods: [PUT]}", role).replace("name: ledger", "name: put")
    ))
    .0;
    let mut replayer = Replayer::new(&old, &new, None).unwrap();
    for _ in 0..3 {
        replayer.add(record("allowed", "rule", "payments", "POST", "/entries"));
    }
    replayer.add(record("allowed", "rule", "payments", "GET", "/entries"));
    // It depends on a header that no record holds.
    replayer.add(record("allowed", "rule", "payments", "PUT", "/entries"));
    replayer.add(record("denied", "no_allow_matched", "other", "GET", "/entries"));
    // Neither set lets it in, but something did.
    replayer.add(record("allowed", "rule", "other", "DELETE", "/entries"));
    replayer.add(record("denied", "rate_limited", "payments", "GET", "/entries"));
    let replay = replayer.finish().unwrap();
    let changes: Vec<_> = replay
        .changes
        .iter()
        .map(|c| (c.gains, c.method.as_str(), c.count, c.decision_id.as_str()))
        .collect();
    assert_eq!(changes, [(false, "POST", 3, "payments-POST")]);
    let counts =
        (replay.records, replay.unchanged, replay.unknown, replay.of_other_policies, replay.not_judged);
    assert_eq!(counts, (8, 2, 1, 1, 1));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// With all known, the verdict is the decision. With headers unknown, it is so whatever the headers are, or unknown.
    #[test]
    fn a_verdict_agrees_with_what_decides(set in set(), ask in request()) {
        let compiled = snapshot(&set, &[], &workload("bank", "ledger"));
        let rules = ask.with_view(|view| compiled.trace(view));
        let decided = if ask.allowed(&compiled) { Verdict::Allowed } else { Verdict::Refused };
        let has_allow = compiled.has_allow_policy();
        prop_assert_eq!(verdict(&rules, has_allow, |_| true), decided);
        let bare = Ask { headers: http::HeaderMap::new(), ..ask };
        let rules = bare.with_view(|view| compiled.trace(view));
        let told = verdict(&rules, has_allow, |attribute| !matches!(attribute, Attribute::Header(_)));
        prop_assert!(told == decided || told == Verdict::Unknown, "{:?} {:?}", told, decided);
    }
}
