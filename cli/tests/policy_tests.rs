//! `palisade test` as an operator and as CI see it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "all of this is test code")]

mod support;

use std::fs;

use support::{documented, palisade, root, stdout};

const POLICY: &str = "apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: ledger, namespace: bank}
spec:
  selector: {matchLabels: {app: ledger}}
  rules:
  - from: [{source: {principals: [corp.example/ns/bank/sa/payments]}}]
    to: [{operation: {methods: [POST], paths: [/entries]}}]
  - from: [{source: {principals: [corp.example/ns/bank/sa/reports]}}]
";

fn test(spec: &str) -> String {
    format!(
        "apiVersion: palisade.mesh/v1\nkind: PolicyTest\nmetadata: {{name: t, namespace: bank}}\nspec:\n{spec}\n"
    )
}

const GOOD: &str = "  cases:
  - {from: [payments], to: [ledger], methods: [POST], paths: [/entries], expect: allow, policy: ledger}
  - {from: [other], to: [ledger], expect: deny, reason: no_allow_matched}";

const TCP: &str = "  cases:
  - {from: [reports, payments], to: [ledger], protocol: tcp, port: 5432, expect: allow}";

/// Runs a test beside the policy above.
#[track_caller]
fn check(spec: &str, words: &[&str], code: i32, parts: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("policy.yaml"), POLICY).unwrap();
    fs::write(folder.path().join("test.yaml"), test(spec)).unwrap();
    support::check(folder.path(), &[&["test", "."], words].concat(), code, parts);
    folder
}

#[test]
fn tests_of_the_examples_hold_and_the_page_shows_what_they_print() {
    let documented = |command: &str| documented("docs/policy-tests.md", command, "```").trim_end().to_owned();
    let mut files: Vec<String> = fs::read_dir(root().join("examples/fintech"))
        .unwrap()
        .map(|entry| format!("examples/fintech/{}", entry.unwrap().file_name().to_string_lossy()))
        .filter(|name| name.ends_with(".yaml"))
        .collect();
    files.sort();
    let files = files.iter().map(String::as_str);
    let words: Vec<&str> =
        ["test", "examples/init"].into_iter().chain(files).chain(["examples/fintech/tests"]).collect();
    let output = palisade(&root(), &words);
    assert_eq!(output.status.code(), Some(0));
    let shown = documented("palisade test examples/init examples/fintech/*.yaml examples/fintech/tests");
    assert_eq!(stdout(&output).trim_end(), shown);
    let output = palisade(&root(), &["test", "examples/init", "examples/fintech"]);
    assert_eq!(output.status.code(), Some(1));
    let said = stdout(&output);
    assert!(said.starts_with(&documented("palisade test examples/init examples/fintech")), "{said}");
}

#[test]
fn a_failure_tells_what_was_expected_what_came_and_why() {
    let spec = "  matrices:
  - name: ledger
    to: ledger
    endpoints: {write: {methods: [POST], paths: [/entries, /x]}, read: {}}
    allow: {payments: [write], plaintext: []}";
    let parts = [
        "FAIL bank/t: ledger: payments may write",
        "POST /x of ledger by payments: expected allow, got deny (no_allow_matched)",
        "path /x is not /entries",
        "4 cases, 6 requests: 1 case failed; 1 of 2 rules exercised (50 %)",
        "AuthorizationPolicy bank/ledger, rule 1, at ./policy.yaml:9:5",
    ];
    check(spec, &[], 1, &parts);
    check(
        "  cases: [{from: [payments], to: [ledger], methods: [POST], paths: [/entries], expect: allow, policy: x}]",
        &[],
        1,
        &["expected allow by x, got allow (rule) by bank/ledger"],
    );
    check(
        "  cases: [{from: [x], to: [ledger], expect: deny, reason: denied_by_rule}]",
        &[],
        1,
        &["expected deny (denied_by_rule), got deny (no_allow_matched)"],
    );
}

#[test]
fn a_port_of_raw_tcp_is_expected_to_take_callers_and_not_requests() {
    check(
        TCP,
        &[],
        1,
        &[
            "FAIL bank/t: reports,payments to ledger: TCP",
            "TCP port 5432 of ledger by payments: expected allow, got deny (no_allow_matched)",
            "protocol TCP is not HTTP",
            "1 case, 2 requests: 1 case failed; 1 of 2 rules exercised (50 %)",
        ],
    );
}

#[test]
fn coverage_below_what_is_asked_fails() {
    check(GOOD, &["--min-coverage", "50"], 0, &["2 cases, 2 requests: all as expected"]);
    check(
        GOOD,
        &["--min-coverage", "51"],
        1,
        &["all as expected; 1 of 2 rules exercised (50 %), less than 51 %"],
    );
    check(GOOD, &["--min-coverage", "101"], 2, &["101"]);
}

#[test]
fn a_ci_server_gets_well_formed_results() {
    let spec = "  cases: [{name: 'a <b> & \"c\"', from: [payments], to: [ledger], expect: allow}]";
    let folder = check(spec, &["--junit", "out.xml", "-o", "json"], 1, &["\"failures\""]);
    let xml = fs::read_to_string(folder.path().join("out.xml")).unwrap();
    for part in [
        "<testsuites name=\"palisade test\" tests=\"1\" failures=\"1\">",
        "<testcase classname=\"bank/t\" name=\"a &lt;b&gt; &amp; &quot;c&quot;\" file=\"./test.yaml\" line=\"5\">",
        "<failure message=\"GET / of ledger by payments: expected allow, got deny (no_allow_matched)\">",
    ] {
        assert!(xml.contains(part), "should have {part}: {xml}");
    }
    assert!(!xml.contains("<b>"), "{xml}");
}

#[test]
fn tests_that_mean_nothing_are_refused_with_their_place() {
    let rows = [
        ("  cases: []", "the test asks nothing"),
        ("  case: []", "did you mean \"cases\"?"),
        ("  cases: [{to: [ledger], expect: deny}]", "the field \"from\" is missing"),
        ("  cases: [{from: [a], to: [ledger]}]", "write expect: allow, or expect: deny"),
        ("  cases: [{from: [a], to: [ledger], expect: ALLOW}]", "did you mean allow?"),
        ("  cases: [{from: [a], to: [ledger], expect: deny, token: {sub: a}}]", "a token has an issuer"),
        ("  cases: [{from: [a], to: [ledger], expect: deny, sourceIp: a}]", "\"a\" is no address"),
        (
            "  cases: [{from: [a], to: [ledger], expect: deny, protocol: tcp, paths: [/a]}]",
            "nothing is read on a port of protocol tcp: leave it out",
        ),
        ("  cases: [{from: [a], to: [ledger], expect: deny, protocol: TCP}]", "did you mean tcp?"),
        ("  cases: [{from: [a], to: [ledger], expect: deny, headers: {'a b': c}}]", "is no header"),
        (
            "  cases: [{from: [a/b/c], to: [ledger], expect: deny}]",
            "./test.yaml:5:11: \"a/b/c\" is not the name",
        ),
        (
            "  matrices: [{to: ledger, endpoints: {r: {}}, allow: {a: [w]}}]",
            "there is no endpoint \"w\"; endpoints here: r",
        ),
    ];
    for (spec, part) in rows {
        check(spec, &[], 2, &[part]);
    }
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("policy.yaml"), POLICY).unwrap();
    support::check(folder.path(), &["test", "."], 2, &["there is no PolicyTest"]);
}

#[test]
fn lint_checks_tests_and_counts_them() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("test.yaml"), test(GOOD)).unwrap();
    let output = palisade(folder.path(), &["lint", "."]);
    assert_eq!(stdout(&output), "1 document in 1 file: no errors\n");
    fs::write(folder.path().join("test.yaml"), test("  cases: 7")).unwrap();
    assert_eq!(palisade(folder.path(), &["lint", "."]).status.code(), Some(2));
}
