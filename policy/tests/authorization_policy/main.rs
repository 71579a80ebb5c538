//! AuthorizationPolicy: who may do what.

#[path = "../support/mod.rs"]
mod support;

mod callers;
mod combining;
mod fields;
mod requests;
mod tcp;
mod tokens;

use palisade_policy::Snapshot;
use support::{Ask, parse_ok, snapshot, workload};

/// The ledger's snapshot under these policies.
#[track_caller]
fn ledger(policies: &str) -> Snapshot {
    let (set, _) = parse_ok(policies);
    snapshot(&set, &[], &workload("bank", "ledger"))
}

/// One policy in the namespace `bank` with one rule; `rule` is in flow style.
fn one(action: &str, rule: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
         metadata: {{name: p, namespace: bank}}\nspec: {{action: {action}, rules: [{rule}]}}\n"
    )
}

/// Asserts whether a rule matches a request, by what ALLOW and DENY make of it.
#[track_caller]
fn check(rule: &str, ask: &Ask, matches: bool) {
    assert_eq!(ask.allowed(&ledger(&one("ALLOW", rule))), matches, "ALLOW {rule} for {ask:?}");
    assert_eq!(ask.allowed(&ledger(&one("DENY", rule))), !matches, "DENY {rule} for {ask:?}");
}
