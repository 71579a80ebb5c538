//! `to`, and the conditions about the request.

use super::check;
use super::support::Ask;
use super::{ledger, one};

fn operation(fields: &str) -> String {
    format!("{{to: [{{operation: {{{fields}}}}}]}}")
}

#[test]
fn methods_paths_and_ports() {
    let ask = Ask::new().method("GET").path("/v1/entries/7");
    for fields in [
        "methods: [GET]",
        "methods: ['G*']",
        "paths: ['/v1/*']",
        "paths: ['*/7']",
        "paths: ['/v1/{*}/7']",
        "paths: ['/{**}']",
        "ports: ['8080']",
        "methods: [POST, GET]",
    ] {
        check(&operation(fields), &ask, true);
    }
    for fields in [
        "methods: [get]",
        "methods: [POST]",
        "paths: [/v1]",
        "paths: [/V1/entries/7]",
        "paths: ['/v1/{*}']",
        "ports: ['80']",
        "notMethods: [GET]",
        "notPaths: ['/v1/*']",
        "notPorts: ['8080']",
    ] {
        check(&operation(fields), &ask, false);
    }
    check(&operation("methods: [GET], paths: [/other]"), &ask, false);
    check(&operation("paths: ['/info*']"), &ask.path("/information"), true);
}

#[test]
fn hosts_ignore_case() {
    check(&operation("hosts: [ledger.bank]"), &Ask::new().host("LEDGER.Bank"), true);
    check(&operation("hosts: ['*.bank']"), &Ask::new().host("ledger.BANK"), true);
    check(&operation("hosts: ['ledger.bank:*']"), &Ask::new().host("ledger.bank:8080"), true);
    check(&operation("hosts: [ledger.bank]"), &Ask::new().host("xledger.bank"), false);
}

#[test]
fn no_spelling_of_a_host_slips_past_a_deny_or_into_an_allow() {
    for host in ["ledger.bank:80", "ledger.bank:443", "ledger.bank.", "LEDGER.bank.:8080"] {
        let ask = Ask::new().host(host);
        assert!(
            !ask.allowed(&ledger(&one("DENY", &operation("hosts: [ledger.bank]")))),
            "DENY hosts, {host}"
        );
        assert!(
            !ask.allowed(&ledger(&one("ALLOW", &operation("hosts: [ledger.bank]")))),
            "ALLOW hosts, {host}"
        );
        assert!(
            !ask.allowed(&ledger(&one("DENY", &operation("notHosts: [ledger.bank]")))),
            "DENY notHosts, {host}"
        );
        assert!(
            !ask.allowed(&ledger(&one("ALLOW", &operation("notHosts: [ledger.bank]")))),
            "ALLOW notHosts, {host}"
        );
    }
}

#[test]
fn a_repeated_header_slips_past_neither() {
    let rule = "{when: [{key: 'request.headers[X-Role]', values: [admin]}]}";
    check(rule, &Ask::new().header("x-role", "admin"), true);
    check(rule, &Ask::new().header("x-role", " admin\t"), true);
    check(rule, &Ask::new().header("x-role", "user"), false);
    check(rule, &Ask::new(), false);
    let both = Ask::new().header("x-role", "user").header("x-role", "admin");
    assert!(!both.allowed(&ledger(&one("ALLOW", rule))));
    assert!(!both.allowed(&ledger(&one("DENY", rule))));
    check("{when: [{key: 'request.headers[x-role]', notValues: [admin]}]}", &Ask::new(), true);
    check(
        "{when: [{key: 'request.headers[x-role]', values: ['*']}]}",
        &Ask::new().header("x-role", ""),
        false,
    );
}

#[test]
fn other_conditions() {
    let when = |key: &str, value: &str| format!("{{when: [{{key: '{key}', values: ['{value}']}}]}}");
    check(&when("source.namespace", "bank"), &Ask::new(), true);
    check(&when("source.principal", "*/sa/payments"), &Ask::new(), true);
    check(&when("source.serviceAccount", "bank/payments"), &Ask::new(), true);
    check(&when("source.trustDomain", "corp.example"), &Ask::new(), true);
    check(&when("source.ip", "10.0.0.0/8"), &Ask::new(), true);
    check(&when("remote.ip", "10.0.0.0/8"), &Ask::new(), false);
    check(&when("destination.ip", "10.0.0.1"), &Ask::new(), true);
    check(&when("destination.port", "8080"), &Ask::new(), true);
    check(&when("destination.port", "80"), &Ask::new(), false);
    check(&when("connection.sni", "ledger.bank"), &Ask::new().sni("LEDGER.bank"), true);
    check(&when("connection.sni", "*"), &Ask::new(), false);
    check(&when("request.headers[:method]", "GET"), &Ask::new(), true);
}
