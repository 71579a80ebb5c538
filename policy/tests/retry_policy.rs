//! RetryPolicy: what is taken, what is refused, for whom it holds, and which requests it lets be repeated.

#![allow(clippy::unwrap_used, reason = "test code")]

mod support;

use std::time::Duration;

use http::{HeaderMap, HeaderName};
use palisade_policy::kind::request_match::MatchView;
use palisade_policy::kind::retry_policy::{Duplicates, OnDuplicate};
use palisade_policy::{Severity, Snapshot};
use support::{findings, parse_ok, service, snapshot, workload};

fn policy(namespace: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: palisade.mesh/v1\nkind: RetryPolicy\n\
         metadata: {{name: r, namespace: {namespace}}}\nspec: {{{spec}}}\n"
    )
}

/// As `account` of the namespace bank has it, where the ledger has joined.
fn seen_by(account: &str, text: &str) -> Snapshot {
    snapshot(&parse_ok(text).0, &[service("bank", "ledger")], &workload("bank", account))
}

const KEYED: &str = "host: ledger, rules: [{match: [{methods: [POST], paths: [/transfers]}], idempotencyKey: Idempotency-Key}]";

#[test]
fn refuses_what_is_out_of_range_or_says_nothing() {
    let rows = [
        ("host: ledger", "PAL2301", "write at least one rule"),
        ("rules: [{idempotent: true}]", "PAL0012", "name the host"),
        ("host: 'Ledger:80', rules: [{idempotent: true}]", "PAL1201", "one host in lower case"),
        ("host: ledger, rules: [{}]", "PAL0012", "or idempotent: true"),
        ("host: ledger, rules: [{idempotent: false}]", "PAL2302", "leave the rule out"),
        ("host: ledger, rules: [{idempotent: true, idempotencyKey: k}]", "PAL2302", "keep idempotencyKey"),
        ("host: ledger, rules: [{idempotencyKey: 'a b'}]", "PAL2303", "Idempotency-Key"),
        ("host: ledger, rules: [{idempotencyKey: Authorization}]", "PAL2303", "one key for each thing"),
        ("host: ledger, rules: [{idempotencyKey: X_Request_Id}]", "PAL2303", ""),
        ("host: ledger, rules: [{idempotencyKey: content-length}]", "PAL2303", ""),
        ("host: ledger, rules: [{idempotencyKey: x-palisade-key}]", "PAL2303", ""),
        ("host: ledger, rules: [{idempotent: true, match: [{hosts: [a]}]}]", "PAL2302", "methods and paths"),
        ("host: ledger, rules: [{idempotent: true, match: [{routes: [a]}]}]", "PAL2302", "methods and paths"),
        ("host: ledger, rules: [{idempotent: true, match: [{methods: [post]}]}]", "PAL1016", "\"POST\""),
        ("host: ledger, retries: {attempts: 2}", "PAL0009", "VirtualService"),
        ("host: ledger, selector: {}", "PAL0009", "write host"),
        ("host: ledger, duplicates: {window: 999ms}", "PAL2304", ""),
        ("host: ledger, duplicates: {window: 25h}", "PAL2304", ""),
        ("host: ledger, duplicates: {window: ten}", "PAL0017", ""),
        ("host: ledger, duplicates: {maxKeys: 999}", "PAL2304", ""),
        ("host: ledger, duplicates: {maxKeys: 1000001}", "PAL2304", ""),
        ("host: ledger, duplicates: {onDuplicate: refuse}", "PAL0011", "Refuse"),
        ("host: ledger, duplicates: {maxKey: 1000}", "PAL0008", "maxKeys"),
    ];
    for (spec, code, help) in rows {
        let found = findings(&policy("bank", spec));
        let fits = |f: &palisade_policy::Finding| {
            f.code == code && f.help.as_deref().unwrap_or_default().contains(help)
        };
        assert!(found.has_errors() && found.0.iter().any(fits), "{spec}: {found:?}");
        let placed = found.0.iter().all(|f| f.position.is_some());
        assert!(placed, "{spec}: {found:?}");
    }
}

#[test]
fn bounds_are_within_what_is_taken() {
    for spec in [
        "host: ledger, duplicates: {window: 1s, maxKeys: 1000}",
        "host: ledger, duplicates: {window: 24h, maxKeys: 1000000, onDuplicate: Refuse}",
        "host: ledger, duplicates: {}",
        KEYED,
    ] {
        assert!(!findings(&policy("bank", spec)).has_errors(), "{spec}");
    }
}

#[test]
fn two_policies_of_one_namespace_for_one_host_are_refused() {
    let two = policy("bank", KEYED)
        + &policy("bank", "host: ledger.bank, duplicates: {}").replace("name: r", "name: s");
    assert!(findings(&two).0.iter().any(|f| f.message.contains("is for this host already")));
    let elsewhere = policy("bank", KEYED) + &policy("shop", "host: ledger.bank, duplicates: {}");
    assert!(!findings(&elsewhere).has_errors());
}

#[test]
fn a_request_is_repeatable_where_a_rule_fits_and_it_bears_one_key_of_some_length() {
    let rules = "host: ledger, rules: [{match: [{methods: [POST], paths: ['/transfers/*']}], idempotencyKey: Idempotency-Key}, \
                 {match: [{paths: [/bank.Ledger/Balance]}], idempotent: true}]";
    let caller = seen_by("payments", &policy("bank", rules));
    let repeats = caller.destination("ledger:8080", 80).unwrap().repeats.clone().unwrap();
    let long = "k".repeat(256);
    let rows: [(&str, &str, &[&str], bool, bool); 9] = [
        ("POST", "/transfers/1", &["a"], true, true),
        ("POST", "/transfers/1", &[&long[1..]], true, true),
        ("POST", "/transfers/1", &[], false, false),
        ("POST", "/transfers/1", &[""], false, false),
        ("POST", "/transfers/1", &["a", "a"], false, false),
        ("POST", "/transfers/1", &[&long], false, false),
        ("PATCH", "/transfers/1", &["a"], false, false),
        ("POST", "/refunds", &["a"], false, false),
        ("POST", "/bank.Ledger/Balance", &[], true, false),
    ];
    for (method, path, keys, allowed, keyed) in rows {
        let name = HeaderName::from_static("idempotency-key");
        let headers: HeaderMap = keys.iter().map(|key| (name.clone(), key.parse().unwrap())).collect();
        let view = MatchView { host: "ledger.bank", method, path, route: None };
        assert_eq!(repeats.allow(&view, &headers), allowed, "{method} {path} {keys:?}");
        assert_eq!(repeats.key(&view, &headers).is_some(), keyed, "{method} {path} {keys:?}");
    }
}

#[test]
fn the_callers_namespace_comes_first_then_the_hosts_then_the_root() {
    let name = |text: &str| {
        let repeats = seen_by("payments", text).destination("ledger:8080", 80).unwrap().repeats.clone();
        repeats.map(|repeats| repeats.name.to_string())
    };
    let of = |namespace: &str| policy(namespace, "host: ledger.bank, duplicates: {}");
    assert_eq!(name(""), None);
    assert_eq!(name(&of("palisade-system")).as_deref(), Some("palisade-system/r"));
    assert_eq!(name(&(of("palisade-system") + &of("bank"))).as_deref(), Some("bank/r"));
    assert_eq!(name(&of("elsewhere")), None);
}

#[test]
fn the_service_itself_watches_by_the_policy_of_its_own_namespace_or_the_root() {
    let watch = |account: &str, text: &str| {
        let watch = seen_by(account, text).watch().cloned();
        watch.map(|watch| (watch.name.to_string(), watch.duplicates.unwrap()))
    };
    let duplicates = "host: ledger.bank, duplicates: {window: 90s, onDuplicate: Refuse}";
    let expected =
        Duplicates { window: Duration::from_secs(90), max_keys: 100_000, on_duplicate: OnDuplicate::Refuse };
    let (own, root) = (policy("bank", duplicates), policy("palisade-system", duplicates));
    assert_eq!(watch("ledger", &own), Some(("bank/r".into(), expected)));
    assert_eq!(watch("ledger", &root), Some(("palisade-system/r".into(), expected)));
    assert_eq!(watch("ledger", &policy("shop", duplicates)), None, "a caller's namespace is not asked");
    assert_eq!(watch("payments", &own), None, "it is for another service");
    assert_eq!(watch("ledger", &policy("bank", KEYED)), None, "nobody asked for it");
    let of_root = policy("bank", KEYED) + &root;
    assert_eq!(watch("ledger", &of_root), None, "a policy counts as a whole");
}

#[test]
fn a_host_that_nobody_has_is_warned_of() {
    let found = findings(&policy("bank", &KEYED.replace("ledger", "api.ledger.example")));
    assert!(found.0.iter().any(|f| f.severity == Severity::Warning && f.path == "spec.host"), "{found:?}");
}
