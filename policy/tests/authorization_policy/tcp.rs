//! Ports of which nothing is read but who is calling: what a rule about HTTP means there.

use palisade_policy::decision::{Grant, Refusal};
use palisade_policy::{Decision, Snapshot};

use super::support::{Ask, parse_ok, snapshot, workload};
use super::{ledger, one};

fn connect(ask: &Ask, snapshot: &Snapshot) -> Result<Grant, Refusal> {
    match snapshot.authorize_tcp(&ask.connection()) {
        Decision::Allow { grant, .. } => Ok(grant),
        Decision::Refuse { refusal } => Err(refusal),
    }
}

/// What ALLOW and DENY with this rule make of a connection of payments to port 8080.
#[track_caller]
fn check(rule: &str, allows: bool, denies: bool) {
    let ask = Ask::new().sni("ledger.bank");
    assert_eq!(connect(&ask, &ledger(&one("ALLOW", rule))).is_ok(), allows, "ALLOW {rule}");
    assert_eq!(connect(&ask, &ledger(&one("DENY", rule))).is_err(), denies, "DENY {rule}");
}

/// What looks at HTTP alone, in every place where a rule can.
const HTTP: &[&str] = &[
    "to: [{operation: {methods: [GET]}}]",
    "to: [{operation: {notMethods: [GET]}}]",
    "to: [{operation: {paths: [/a]}}]",
    "to: [{operation: {notPaths: ['/{**}']}}]",
    "to: [{operation: {hosts: [h]}}]",
    "to: [{operation: {notHosts: [h]}}]",
    "from: [{source: {requestPrincipals: [i/s]}}]",
    "from: [{source: {notRequestPrincipals: ['*']}}]",
    "when: [{key: 'request.headers[x-a]', values: [b]}]",
    "when: [{key: 'request.headers[:method]', values: [GET]}]",
    "when: [{key: 'request.headers[:authority]', notValues: [h]}]",
    "when: [{key: request.auth.principal, values: ['*']}]",
    "when: [{key: request.auth.audiences, notValues: [a]}]",
    "when: [{key: request.auth.presenter, values: [a]}]",
    "when: [{key: 'request.auth.claims[a][b]', values: [c]}]",
];

#[test]
fn a_rule_about_http_alone_denies_the_whole_tcp_port_and_allows_nothing() {
    for rule in HTTP {
        check(&format!("{{{rule}}}"), false, true);
    }
}

#[test]
fn on_tcp_a_deny_keeps_what_it_says_of_the_connection() {
    for (rule, denies) in [
        ("{from: [{source: {namespaces: [bank]}}], to: [{operation: {methods: [GET]}}]}", true),
        ("{from: [{source: {namespaces: [shop]}}], to: [{operation: {methods: [GET]}}]}", false),
        ("{from: [{source: {requestPrincipals: [x], ipBlocks: [10.1.0.0/16]}}]}", true),
        ("{from: [{source: {requestPrincipals: [x], ipBlocks: [10.2.0.0/16]}}]}", false),
        ("{to: [{operation: {paths: [/a], ports: ['8080']}}]}", true),
        ("{to: [{operation: {paths: [/a], ports: ['80']}}]}", false),
        ("{to: [{operation: {paths: [/a], notPorts: ['8080']}}]}", false),
        ("{to: [{operation: {ports: ['80']}}, {operation: {methods: [GET]}}]}", true),
        (
            "{when: [{key: 'request.headers[a]', values: [b]}, {key: destination.port, values: ['80']}]}",
            false,
        ),
        ("{when: [{key: 'request.headers[a]', values: [b]}, {key: source.namespace, values: [bank]}]}", true),
    ] {
        check(rule, false, denies);
    }
}

#[test]
fn on_tcp_an_alternative_without_http_does_not_save_an_allow_rule() {
    check("{to: [{operation: {ports: ['8080']}}, {operation: {methods: [GET]}}]}", false, true);
    check("{from: [{source: {namespaces: [bank]}}, {source: {requestPrincipals: [x]}}]}", false, true);
}

#[test]
fn what_says_nothing_of_http_means_the_same_on_tcp() {
    for rule in [
        "{}",
        "{from: [{source: {principals: [corp.example/ns/bank/sa/payments]}}]}",
        "{from: [{source: {serviceAccounts: [payments], notTrustDomains: [evil.example]}}]}",
        "{from: [{source: {ipBlocks: [10.1.2.3], remoteIpBlocks: [203.0.113.0/24]}}]}",
        "{to: [{operation: {ports: ['8080'], notPorts: ['80']}}]}",
        "{when: [{key: connection.sni, values: ['*.bank']}, {key: destination.ip, values: [10.0.0.1]}]}",
        "{when: [{key: source.ip, notValues: [10.9.0.0/16]}, {key: remote.ip, values: [203.0.113.9]}]}",
        "{when: [{key: source.serviceAccount, values: [payments]}]}",
    ] {
        check(rule, true, true);
        assert!(Ask::new().sni("ledger.bank").allowed(&ledger(&one("ALLOW", rule))), "{rule}");
    }
    check("{from: [{source: {principals: ['*/sa/other']}}]}", false, false);
}

#[test]
fn the_rule_that_decides_a_connection_has_the_index_of_the_document() {
    let http = "{to: [{operation: {methods: [GET]}}]}";
    let rules = format!("{http}, {http}, {{from: [{{source: {{namespaces: [bank]}}}}]}}, {http}");
    let snapshot = ledger(&one("ALLOW", &rules));
    let Ok(Grant::Rule(rule)) = connect(&Ask::new(), &snapshot) else { panic!("refused") };
    assert_eq!(rule.envoy_name(), "ns[bank]-policy[p]-rule[2]");
    assert_eq!(connect(&Ask::new().plaintext(), &snapshot), Err(Refusal::NoAllowMatched));
}

#[test]
fn plaintext_is_refused_on_a_strict_tcp_port_before_any_policy() {
    let strict = "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: s, namespace: bank}\n\
                  spec: {selector: {matchLabels: {app: ledger}}, mtls: {mode: STRICT}, portLevelMtls: {'5432': {mode: PERMISSIVE}}}\n";
    let (set, _) = parse_ok(&(one("ALLOW", "{}") + strict));
    let snapshot = snapshot(&set, &[], &workload("bank", "ledger"));
    let plaintext = Ask::new().plaintext();
    assert_eq!(connect(&plaintext, &snapshot), Err(Refusal::PlaintextRefused));
    assert!(connect(&plaintext.port(5432), &snapshot).is_ok());
    assert!(connect(&Ask::new(), &snapshot).is_ok());
}

#[test]
fn audit_and_dry_run_policies_watch_tcp_as_a_deny_would() {
    let audit = ledger(&one("AUDIT", "{to: [{operation: {methods: [GET], ports: ['8080']}}]}"));
    assert_eq!(audit.observe_tcp(&Ask::new().connection()).audited.len(), 1);
    assert_eq!(audit.observe_tcp(&Ask::new().port(80).connection()).audited.len(), 0);
    let dry = one("DENY", "{to: [{operation: {methods: [GET]}}]}")
        .replace("namespace: bank", "namespace: bank, annotations: {istio.io/dry-run: 'true'}");
    let dry = ledger(&dry);
    assert_eq!(connect(&Ask::new(), &dry), Ok(Grant::NoPolicy));
    let observed = dry.observe_tcp(&Ask::new().connection()).dry_run;
    assert!(matches!(observed, Some(Err(Refusal::Denied(_)))), "{observed:?}");
}
