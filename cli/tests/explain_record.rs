//! `palisade explain DECISION_ID` on documents, as an operator sees it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "all of this is test code")]

mod support;

use std::fs;

use serde_json::json;
use support::{record, root};

const POLICIES: [&str; 4] = ["--policies", "examples/init", "--policies", "examples/fintech"];

fn check(words: &[&str], code: i32, parts: &[&str]) -> String {
    support::check(&root(), &[&["explain"], words].concat(), code, parts)
}

/// A log of these lines, and its path.
fn log(folder: &tempfile::TempDir, name: &str, lines: &[String]) -> String {
    let path = folder.path().join(name);
    fs::write(&path, lines.join("\n")).unwrap();
    path.display().to_string()
}

#[test]
fn a_record_is_explained_by_documents_and_what_is_unknown_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let lines =
        [record("0193-1", json!({"path": "/balances/1"})), "{\"ti".into(), record("0193-2", json!({}))];
    let log = log(&folder, "ledger.jsonl", &lines);
    let said = check(
        &[&["0193-2", "--log", &log], &POLICIES[..]].concat(),
        1,
        &[
            "warning: 1 line is no decision record",
            "ledger.jsonl:2",
            "REFUSED: none of the 3 ALLOW rules",
            "method DELETE is not GET or POST",
            "record    REFUSED (no_allow_matched), policy version 3",
            "unknown   headers, query, claims",
            "whether they are version 3 is not known",
        ],
    );
    assert!(!said.contains("DIFFERS"), "{said}");
}

#[test]
fn a_record_of_a_tcp_connection_is_explained_as_one() {
    let folder = tempfile::tempdir().unwrap();
    let tcp = json!({"method": null, "path": null, "authority": null, "protocol": "TCP"});
    let log = log(&folder, "ledger.jsonl", &[record("0193-3", tcp)]);
    let said = check(
        &[&["0193-3", "--log", &log], &POLICIES[..]].concat(),
        1,
        &[
            "request   a connection of raw TCP",
            "protocol TCP is not HTTP",
            "record    REFUSED (no_allow_matched)",
        ],
    );
    assert!(!said.contains("DIFFERS"), "{said}");
}

#[test]
fn a_record_that_the_policies_do_not_bear_out_is_told_to_differ_and_never_exits_with_0() {
    let folder = tempfile::tempdir().unwrap();
    let rows = [
        // They would let it in; they would not; another rule would.
        (json!({"method": "POST"}), "DIFFERS: the record says REFUSED;", "ALLOWED"),
        (
            json!({"decision": "allowed", "reason": "rule", "policy": "fintech/ledger-payments", "rule": 0}),
            "DIFFERS: the record says ALLOWED by fintech/ledger-payments, rule 0;",
            "REFUSED",
        ),
        (
            json!({"method": "POST", "decision": "allowed", "reason": "rule", "policy": "fintech/old", "rule": 2}),
            "DIFFERS: the record says ALLOWED by fintech/old, rule 2;",
            "ledger-payments, rule 0",
        ),
        (
            json!({"reason": "plaintext_refused", "decision": "unauthenticated"}),
            "DIFFERS",
            "no_allow_matched",
        ),
    ];
    for (more, headline, instead) in rows {
        let log = log(&folder, "one.jsonl", &[record("0193-1", more)]);
        check(&[&["0193-1", "--log", &log], &POLICIES[..]].concat(), 1, &[headline, instead]);
    }
}

#[test]
fn a_question_that_cannot_be_answered_is_refused_with_the_way_on() {
    let folder = tempfile::tempdir().unwrap();
    let plain = log(&folder, "plain.jsonl", &[record("1", json!({})), record("2", json!({}))]);
    let cut = log(&folder, "cut.jsonl", &[record("1", json!({})), record("2", json!({}))[..90].to_owned()]);
    let twice = log(&folder, "twice.jsonl", &[record("1", json!({})), record("1", json!({"method": "GET"}))]);
    let empty = log(&folder, "empty.jsonl", &[]);
    let missing = log(
        &folder,
        "missing.jsonl",
        &[
            record("port", json!({"upstream_cluster": null})),
            record("service", json!({"destination_principal": null})),
            record("codec", json!({"method": null, "path": null})),
            record("guard", json!({"reason": "guard_method", "policy": "fintech/forms", "rule": 0})),
            record("edge", json!({"direction": "edge"})),
            record("tls", json!({"reason": "expired", "response_code_details": "handshake_failed"})),
            record("none", json!({"policy_version": 0})),
        ],
    );
    let rows: &[(&[&str], i32, &str)] = &[
        (&["2"], 2, "--log FILE"),
        (&["2", "--log", "nowhere.jsonl"], 2, "cannot read nowhere.jsonl"),
        (&["3", "--log", &plain, "--log", &empty], 2, "no record with the id 3 among 2 of"),
        (&["2", "--log", &cut], 2, "cut.jsonl:2"),
        (&["1", "--log", &twice], 2, "several records have the id 1 and differ"),
        (&["2", "--log", &plain], 2, "policy version 3: name the control plane"),
        (&["2", "--log", &plain, "--server", "127.0.0.1:1"], 2, "--operator-dir"),
        (&["2", "--log", &plain, "--from", "payments"], 2, "cannot be used with"),
        (&["2", "--log", &plain, "--method", "GET"], 2, "cannot be used with"),
        (&["port", "--log", &missing], 2, "does not tell the port"),
        (&["service", "--log", &missing], 2, "does not tell the service"),
        (&["codec", "--log", &missing], 2, "refused before it was a request"),
        (&["guard", "--log", &missing], 2, "guard_method, by fintech/forms, rule 0"),
        (&["edge", "--log", &missing], 2, "of an edge"),
        (&["tls", "--log", &missing], 2, "in the TLS handshake, reason expired"),
        (
            &["none", "--log", &missing, "--server", "127.0.0.1:1", "--operator-dir", "x"],
            2,
            "names no policy version",
        ),
        (&[], 2, "--policies <PATH>"),
        (&["--policies", "examples/init", "--from", "payments"], 2, "--to <WORKLOAD>"),
        // A variable that is there for other commands breaks nothing.
        (
            &["--policies", "examples/init", "--from", "a/b", "--to", "a/c", "--log", &plain],
            1,
            "not read without a DECISION_ID",
        ),
    ];
    for (words, code, part) in rows {
        check(words, *code, &[part]);
    }
    // Twice the same log is no contradiction.
    let same = ["2", "--log", &plain, "--log", &plain];
    check(&[&same[..], &POLICIES[..]].concat(), 1, &["REFUSED"]);
}

#[test]
fn what_a_record_leaves_out_can_be_said() {
    let folder = tempfile::tempdir().unwrap();
    let policy = folder.path().join("policy.yaml");
    let text = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: trial, namespace: fintech}
spec: {rules: [{when: [{key: 'request.headers[x-trial]', values: ['1']}]}]}
";
    fs::write(&policy, text).unwrap();
    let allowed = json!({"decision": "allowed", "reason": "rule", "policy": "fintech/trial", "rule": 0});
    let log = log(&folder, "one.jsonl", &[record("1", allowed)]);
    let words = ["1", "--log", &log, "--policies", policy.to_str().unwrap()];
    check(&words, 1, &["DIFFERS", "unknown   headers"]);
    let said =
        check(&[&words[..], &["--header", "x-trial: 1"]].concat(), 0, &["ALLOWED", "fintech/trial, rule 0"]);
    assert!(!said.contains("DIFFERS"), "{said}");
}
