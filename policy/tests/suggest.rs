//! Suggested policies: they let in what was observed, and no more than they say.

#![expect(clippy::unwrap_used, reason = "test code")]

mod support;

use palisade_policy::record::Record;
use palisade_policy::suggest::Suggester;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use support::{Ask, parse_ok, snapshot, workload};

fn record(caller: &str, method: &str, path: &str, reason: &str) -> Record {
    let line = serde_json::json!({
        "decision_id": "d", "direction": "inbound", "decision": if reason == "rule" { "allowed" } else { "denied" },
        "reason": reason, "source_principal": (!caller.is_empty()).then(|| format!("spiffe://{caller}")),
        "destination_principal": "spiffe://corp.example/ns/bank/sa/ledger", "request_principal": null,
        "source_address": "10.1.2.3:5000", "method": method, "authority": "ledger.bank:8080", "path": path,
        "policy": null, "rule": null, "policy_version": 1, "upstream_cluster": "inbound|8080||",
    });
    Record::parse(&line.to_string()).unwrap()
}

fn suggested(records: impl IntoIterator<Item = Record>) -> String {
    let mut suggester = Suggester::default();
    records.into_iter().for_each(|record| suggester.add(record));
    suggester.policies()
}

const PAYMENTS: &str = "corp.example/ns/bank/sa/payments";
const REPORTS: &str = "corp.example/ns/bank/sa/reports";

#[test]
fn a_method_is_let_in_only_on_the_paths_that_it_was_seen_on() {
    let text = suggested([
        record(PAYMENTS, "POST", "/entries", "rule"),
        record(PAYMENTS, "GET", "/entries", "rule"),
        record(PAYMENTS, "GET", "/balances/1", "rule"),
        record(PAYMENTS, "GET", "/balances/2", "rule"),
        record(REPORTS, "GET", "/entries", "no_allow_matched"),
    ]);
    assert!(text.contains("- \"/balances/{*}\" # 2 requests, 2 different paths"), "{text}");
    assert!(text.contains("# Refused as before: 1 requests of corp.example/ns/bank/sa/reports."), "{text}");
    let compiled = snapshot(&parse_ok(&text).0, &[], &workload("bank", "ledger"));
    let allowed = |peer: &str, method: &str, path: &str| {
        Ask::new().peer(peer).method(method).path(path).port(8080).allowed(&compiled)
    };
    for (method, path) in [("POST", "/entries"), ("GET", "/entries"), ("GET", "/balances/9")] {
        assert!(allowed(PAYMENTS, method, path), "{method} {path}");
        assert!(!allowed(REPORTS, method, path), "{method} {path}");
    }
    for (method, path) in
        [("POST", "/balances/9"), ("GET", "/balances/9/x"), ("GET", "/entries/"), ("PUT", "/entries")]
    {
        assert!(!allowed(PAYMENTS, method, path), "{method} {path}");
    }
    assert!(!Ask::new().method("GET").path("/entries").port(9000).allowed(&compiled));
}

#[test]
fn what_a_rule_would_take_for_a_pattern_is_left_out_and_said() {
    let text = suggested([record(PAYMENTS, "GET", "/files/*", "rule"), record("", "GET", "/x", "rule")]);
    assert!(text.contains(
        "Left out: 1 requests whose path a rule would take for a pattern, the first \"GET /files/*\""
    ));
    assert!(text.contains("1 requests were let in without a certificate"), "{text}");
    let compiled = snapshot(&parse_ok(&text).0, &[], &workload("bank", "ledger"));
    assert!(!Ask::new().peer(PAYMENTS).path("/files/x").allowed(&compiled));
    assert!(!Ask::new().plaintext().path("/x").allowed(&compiled));
    assert_eq!(suggested([record(PAYMENTS, "GET", "/x", "denied_by_rule")]), "");
}

#[test]
fn a_log_line_writes_nothing_into_the_document_but_texts() {
    let path = "/a\"]}]\nspec: {rules: [{}]} #";
    let text = suggested([record(PAYMENTS, "GET", path, "rule"), record(PAYMENTS, "GET: x", "/b", "rule")]);
    let compiled = snapshot(&parse_ok(&text).0, &[], &workload("bank", "ledger"));
    assert!(!Ask::new().peer(PAYMENTS).path("/anything").allowed(&compiled), "{text}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_seen_is_let_in_and_what_has_another_shape_is_not(
        seen in vec((select(vec!["GET", "POST"]), select(vec!["/a", "/a/", "/a/7", "/a/8/b", "/", "/c%20d"])), 1..6),
        method in select(vec!["GET", "POST", "PUT"]),
        path in select(vec!["/a", "/a/", "/a/x", "/a/8/b", "/a/8/c", "/", "/b"]),
    ) {
        let text = suggested(seen.iter().map(|(method, path)| record(PAYMENTS, method, path, "rule")));
        let compiled = snapshot(&parse_ok(&text).0, &[], &workload("bank", "ledger"));
        let allowed = |method: &str, path: &str| Ask::new().peer(PAYMENTS).method(method).path(path).allowed(&compiled);
        for (method, path) in &seen {
            prop_assert!(allowed(method, path), "{} {} {}", method, path, text);
        }
        let shape = |path: &str| path.replace("/a/7", "/a/{*}").replace("/a/8", "/a/{*}").replace("/a/x", "/a/{*}");
        let is_like = seen.iter().any(|(m, p)| *m == method && shape(p) == shape(path));
        prop_assert_eq!(allowed(method, path), is_like, "{} {} {}", method, path, text);
    }
}
