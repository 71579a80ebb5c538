use std::path::PathBuf;
use std::sync::Arc;

use palisade_policy::Snapshot;
use palisade_policy::compile::authentication::{JwtRule, KeyOrigin};
use palisade_policy::document::parse;
use palisade_policy::kind::{Named, Spec};
use palisade_policy::projection::{Projection, project};

use crate::support::{file, parse_ok, snapshot, workload};
use crate::{URI, codes, policy, reader};

fn issuer(fields: &str) -> String {
    policy("api", &format!("issuers: [{{issuer: 'https://auth.example'{fields}}}]"))
}

fn rules(text: &str, account: &str) -> Vec<Arc<JwtRule>> {
    let set = parse_ok(text).0;
    snapshot(&set, &[], &workload("bank", account)).authentication().rules.clone()
}

#[test]
fn an_issuer_of_the_policy_speaks_for_every_rule_of_that_issuer_and_no_other() {
    let fields = ", algorithms: [ES256], clockSkew: 30s, maxTokenAge: 1h, requiredClaims: [sub, jti], \
                  maxTokenBytes: 4096, keys: {refreshInterval: 1m, refetchIntervalMin: 5s, \
                  allowPrivateAddresses: true, caCertificates: /etc/ca.pem}";
    let other = reader(", jwksUri: 'https://other.example/keys'")
        .replace("issuer: 'https://auth.example'", "issuer: 'https://other.example'")
        .replace("users", "others");
    let same = reader(URI)
        .replace("users", "zweite")
        .replace("{jwtRules", "{selector: {matchLabels: {app: edge}}, jwtRules");
    let all =
        rules(&format!("{}{}{other}{same}", reader(&format!("{URI}, timeout: 2s")), issuer(fields)), "edge");
    let of = |id: &str| all.iter().find(|rule| &*rule.id == id).unwrap();
    for id in ["bank/users/0", "bank/zweite/0"] {
        let rule = of(id);
        assert_eq!(rule.algorithms, ["ES256"]);
        assert_eq!((rule.clock_skew.as_secs(), rule.max_token_bytes), (30, 4096));
        assert_eq!(rule.max_age.unwrap().as_secs(), 3600);
        assert_eq!(rule.required_claims, ["sub", "jti"]);
        assert_eq!((rule.keys.refresh.as_secs(), rule.keys.refetch_min.as_secs()), (60, 5));
        let (url, ca) = ("https://auth.example/keys".into(), Some(PathBuf::from("/etc/ca.pem")));
        assert_eq!(rule.keys.origin, KeyOrigin::Url { url, allow_private: true, ca_certificates: ca });
    }
    assert_eq!(of("bank/users/0").keys.timeout.as_secs(), 2);
    let untouched = of("bank/others/0");
    assert_eq!((untouched.algorithms.len(), untouched.max_age), (9, None));
}

#[test]
fn a_secret_comes_instead_of_public_keys_and_brings_one_algorithm() {
    for fields in [", secretFile: /run/secrets/jwt", ", secretFile: /run/secrets/jwt, algorithms: [HS256]"] {
        let all = rules(&(reader("") + &issuer(fields)), "edge");
        assert_eq!(all[0].keys.origin, KeyOrigin::Secret("/run/secrets/jwt".into()));
        assert_eq!(all[0].algorithms, ["HS256"]);
    }
}

#[test]
fn what_is_wrong_with_an_issuer_is_told_by_code() {
    let with = |keys: &str, fields: &str| reader(keys) + &issuer(fields);
    let secret = ", secretFile: /run/s";
    let rows = [
        (with(URI, ""), vec![]),
        (with(URI, ", algorithms: [RS256, PS384, EdDSA]"), vec![]),
        (with(URI, ", algorithms: [none]"), vec!["PAL1902"]),
        (with(URI, ", algorithms: [HS384]"), vec!["PAL1902"]),
        (with(URI, ", algorithms: [rs256]"), vec!["PAL1902"]),
        (with(URI, ", algorithms: [HS256]"), vec!["PAL1902"]),
        (with("", &format!("{secret}, algorithms: [HS256, RS256]")), vec!["PAL1902"]),
        // Never both: a public key is known to everybody, and would pass for the secret.
        (with(URI, secret), vec!["PAL1801"]),
        (with(", jwks: '{\"keys\":[]}'", secret), vec!["PAL1801"]),
        (with("", ""), vec!["PAL1801"]),
        (with("", ", secretFile: run/s"), vec!["PAL1903"]),
        (with("", ", secretFile: /run/../etc/passwd"), vec!["PAL1903"]),
        (with("", &format!("{secret}, keys: {{allowPrivateAddresses: true}}")), vec!["PAL1903"]),
        (with("", &format!("{secret}, keys: {{caCertificates: /ca.pem}}")), vec!["PAL1903"]),
        (with("", &format!("{secret}, keys: {{refreshInterval: 10s}}")), vec![]),
        (with(URI, ", keys: {caCertificates: ca.pem}"), vec!["PAL1801"]),
        (with(URI, ", clockSkew: 0s"), vec![]),
        (with(URI, ", clockSkew: 11m"), vec!["PAL1805"]),
        (with(URI, ", clockSkew: 1s500ms"), vec!["PAL1805"]),
        (with(URI, ", maxTokenAge: 0s"), vec!["PAL1805"]),
        (with(URI, ", maxTokenBytes: 255"), vec!["PAL1805"]),
        (with(URI, ", maxTokenBytes: 32769"), vec!["PAL1805"]),
        (with(URI, ", keys: {refreshInterval: 500ms}"), vec!["PAL1805"]),
        (with(URI, ", keys: {refetchIntervalMin: 0s}"), vec!["PAL1805"]),
        (with(URI, ", keys: {private: true}"), vec!["PAL0008"]),
        (with(URI, "}, {issuer: 'https://auth.example'"), vec!["PAL1904"]),
        (with(URI, "}, {issuer: 'https://else.example'"), vec!["PAL1907"]),
        (reader(URI) + &policy("api", ""), vec!["PAL1901"]),
        (reader(URI) + &policy("api", "issuers: [{clockSkew: 1s}]"), vec!["PAL0012"]),
        // http:// and private addresses: who answers decides who may log in.
        (with(", jwksUri: 'http://10.0.0.1/keys'", ""), vec!["PAL1801"]),
        (with(", jwksUri: 'http://10.0.0.1/keys'", ", keys: {allowPrivateAddresses: true}"), vec![]),
        (with(", jwksUri: 'https://127.0.0.1/keys'", ", keys: {allowPrivateAddresses: true}"), vec![]),
        (with(", jwksUri: 'file:///keys'", ", keys: {allowPrivateAddresses: true}"), vec!["PAL1801"]),
    ];
    for (text, expected) in rows {
        assert_eq!(codes(&text), expected, "{text}");
    }
}

/// As it comes by wire, with nothing checked before.
fn compiled(text: &str, account: &str) -> Vec<&'static str> {
    let (objects, findings) = parse(&[file(text)]);
    assert!(findings.is_empty(), "{findings}");
    let empty = parse_ok("").0;
    let mut projection: Projection = project(&empty, &[], &workload("bank", account));
    for object in objects {
        let meta = object.meta;
        match object.spec {
            Spec::JwtPolicy(spec) => {
                projection.jwt_policies.push(Named { meta, spec });
            }
            Spec::RequestAuthentication(spec) => {
                projection.request_authentication.push(Named { meta, spec });
            }
            other => panic!("{other:?}"),
        }
    }
    match Snapshot::compile(1, &projection) {
        Ok(_) => Vec::new(),
        Err(findings) => findings.0.iter().map(|finding| finding.code).collect(),
    }
}

#[test]
fn what_one_policy_grants_counts_only_where_it_is_sure_to_hold() {
    let edge = "selector: {matchLabels: {app: edge}}, ";
    let narrow =
        |fields: &str| policy("api", &format!("{edge}issuers: [{{issuer: 'https://auth.example'{fields}}}]"));
    let at_edge = |keys: &str| reader(keys).replace("{jwtRules", &format!("{{{edge}jwtRules"));
    let (private, secret) = (", keys: {allowPrivateAddresses: true}", ", secretFile: /run/s");
    let http = ", jwksUri: 'http://localhost/keys'";
    let rows = [
        // The rule holds for more workloads than the policy.
        (reader(http) + &narrow(private), vec!["PAL1801"]),
        (reader("") + &narrow(secret), vec!["PAL1801"]),
        (reader(URI) + &narrow(secret), vec!["PAL1801"]),
        (at_edge(http) + &narrow(private), vec![]),
        (at_edge(http) + &issuer(private), vec![]),
        (at_edge("") + &issuer(secret), vec![]),
    ];
    for (text, expected) in rows {
        assert_eq!(codes(&text), expected, "{text}");
        // A proxy that both select judges by what it has, and one that the policy does not select was not told of it.
        let at_the_edge: Vec<_> =
            if text.contains(&narrow(secret)) && text.contains(URI) { expected } else { vec![] };
        assert_eq!(compiled(&text, "edge"), at_the_edge, "{text}");
    }
    assert_eq!(compiled(&reader(http), "other"), ["PAL1801"]);
    assert_eq!(compiled(&reader(""), "other"), ["PAL1801"]);
    assert_eq!(compiled(&narrow(private), "other"), ["PAL1017"]);
}

#[test]
fn two_policies_that_speak_of_one_issuer_for_one_workload_are_refused() {
    let selecting = |name: &str, label: &str, skew: &str| {
        let selector = format!("selector: {{matchLabels: {{{label}}}}}, ");
        policy(name, &format!("{selector}issuers: [{{issuer: 'https://auth.example', clockSkew: {skew}}}]"))
    };
    let rows = [
        ("app: edge", "app: edge", vec!["PAL1904"]),
        ("app: edge", "", vec!["PAL1904"]),
        ("", "app: edge", vec!["PAL1904"]),
        ("app: edge", "app: other", vec![]),
        // Whether one workload has both labels is for the workload to know.
        ("app: edge", "tier: front", vec![]),
    ];
    for (a, b, expected) in rows {
        let text = reader(URI) + &selecting("a", a, "1s") + &selecting("b", b, "2s");
        assert_eq!(codes(&text), expected, "{a} {b}");
    }
    let both = selecting("a", "app: edge", "1s") + &selecting("b", "app: edge", "2s");
    assert_eq!(compiled(&(reader(URI) + &both), "edge"), ["PAL1904"]);
    let nested =
        reader(URI).replace("users", "more").replace("https://auth.example'", "https://auth.example/x'");
    assert_eq!(compiled(&(reader(URI) + &nested), "edge"), ["PAL1804"]);
}
