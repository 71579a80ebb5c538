//! `from`, and the conditions about the caller.

use super::support::Ask;
use super::{check, ledger, one};

fn source(fields: &str) -> String {
    format!("{{from: [{{source: {{{fields}}}}}]}}")
}

fn payments() -> Ask {
    Ask::new()
}

#[test]
fn principals_match_whole_ids_and_patterns() {
    let yes = [
        "corp.example/ns/bank/sa/payments",
        "corp.example/ns/bank/*",
        "*/ns/bank/sa/payments",
        "*",
        "cluster.local/ns/bank/sa/payments",
    ];
    for pattern in yes {
        check(&source(&format!("principals: ['{pattern}']")), &payments(), true);
    }
    let no = [
        "corp.example/ns/bank/sa/payment",
        "corp.example/ns/bank/sa/payments2",
        "corp.example/ns/bank/sa/Payments",
        "corp.example.evil/ns/bank/sa/payments",
        "*/ns/bank/sa/ledger",
        "evil*",
    ];
    for pattern in no {
        check(&source(&format!("principals: ['{pattern}']")), &payments(), false);
    }
}

#[test]
fn a_plaintext_caller_has_no_identity() {
    let plaintext = payments().plaintext();
    for fields in
        ["principals: ['*']", "namespaces: ['*']", "serviceAccounts: [bank/payments]", "trustDomains: ['*']"]
    {
        check(&source(fields), &plaintext, false);
    }
    for fields in [
        "notPrincipals: ['*']",
        "notNamespaces: ['*']",
        "notServiceAccounts: [bank/payments]",
        "notTrustDomains: ['*']",
    ] {
        check(&source(fields), &plaintext, true);
    }
    check(&source("notPrincipals: ['*']"), &payments(), false);
}

#[test]
fn namespaces_and_accounts_are_compared_part_by_part() {
    check(&source("namespaces: [bank]"), &payments(), true);
    check(&source("namespaces: [ban]"), &payments(), false);
    check(&source("namespaces: ['ban*']"), &payments(), true);
    check(&source("namespaces: [payments]"), &payments(), false);
    check(&source("serviceAccounts: [bank/payments]"), &payments(), true);
    check(&source("serviceAccounts: [payments]"), &payments(), true);
    check(&source("serviceAccounts: [other/payments]"), &payments(), false);
    check(
        &source("serviceAccounts: [payments]"),
        &payments().peer("corp.example/ns/other/sa/payments"),
        false,
    );
    // CVE-2026-39350: a dot is a dot.
    check(&source("serviceAccounts: [a.b]"), &payments().peer("corp.example/ns/bank/sa/a.b"), true);
    check(&source("serviceAccounts: [a.b]"), &payments().peer("corp.example/ns/bank/sa/axb"), false);
    check(&source("trustDomains: [corp.example]"), &payments(), true);
    check(&source("trustDomains: [corp]"), &payments(), false);
    // An id of another form has no namespace and no account.
    check(&source("namespaces: [bank]"), &payments().peer("corp.example/x/ns/bank/sa/payments"), false);
}

#[test]
fn addresses_are_compared_by_block() {
    check(&source("ipBlocks: [10.1.0.0/16]"), &payments(), true);
    check(&source("ipBlocks: [10.1.2.3]"), &payments(), true);
    check(&source("ipBlocks: [10.2.0.0/16]"), &payments(), false);
    check(&source("ipBlocks: [10.1.0.0/16]"), &payments().source("::ffff:10.1.2.3"), true);
    check(&source("notIpBlocks: [10.1.0.0/16]"), &payments(), false);
    check(&source("remoteIpBlocks: [203.0.113.0/24]"), &payments(), true);
    check(&source("remoteIpBlocks: [10.0.0.0/8]"), &payments(), false);
    check(&source("ipBlocks: ['2001:db8::/32']"), &payments().source("2001:db8::1"), true);
}

#[test]
fn fields_of_a_source_are_joined_by_and_sources_by_or() {
    let both = "principals: [corp.example/ns/bank/sa/payments], ipBlocks: [10.9.0.0/16]";
    check(&source(both), &payments(), false);
    let either = "{from: [{source: {namespaces: [other]}}, {source: {namespaces: [bank]}}]}";
    check(either, &payments(), true);
}

#[test]
fn without_a_token_its_attributes_are_absent() {
    check(&source("requestPrincipals: ['*']"), &payments(), false);
    check(&source("notRequestPrincipals: ['*']"), &payments(), true);
    check("{when: [{key: 'request.auth.claims[scope]', values: [x]}]}", &payments(), false);
    check("{when: [{key: 'request.auth.principal', notValues: [x]}]}", &payments(), true);
}

#[test]
fn aliases_of_the_trust_domain_count_as_ours() {
    let mesh = "apiVersion: palisade.mesh/v1\nkind: MeshConfig\nmetadata: {name: default, namespace: palisade-system}\n\
                spec: {trustDomainAliases: [old.example]}\n---\n";
    let policy = one("ALLOW", &source("principals: [old.example/ns/bank/sa/payments]"));
    assert!(payments().allowed(&ledger(&format!("{mesh}{policy}"))));
    assert!(!payments().allowed(&ledger(&policy)));
}
