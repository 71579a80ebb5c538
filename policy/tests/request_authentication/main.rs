//! RequestAuthentication: what is taken, what is refused, and what a rule comes to.

#[path = "../support/mod.rs"]
mod support;

use palisade_policy::compile::authentication::KeyOrigin;
use support::{findings, parse_ok, snapshot, workload};

fn rules(namespace: &str, selector: &str, rules: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: RequestAuthentication\n\
         metadata: {{name: users, namespace: {namespace}}}\nspec: {{{selector}jwtRules: [{rules}]}}\n"
    )
}

fn rule(rest: &str) -> String {
    rules("bank", "", &format!("{{issuer: 'https://auth.example', {rest}}}"))
}

const URI: &str = "jwksUri: 'https://auth.example/keys'";

#[test]
fn what_is_not_said_has_a_safe_meaning() {
    let set = parse_ok(&rule(URI)).0;
    let snapshot = snapshot(&set, &[], &workload("bank", "accounts"));
    let rule = &snapshot.authentication().rules[0];
    assert_eq!(&*rule.id, "bank/users/0");
    let url = "https://auth.example/keys".into();
    assert_eq!(rule.keys.origin, KeyOrigin::Url { url, allow_private: false, ca_certificates: None });
    assert_eq!(rule.locations.headers, [("authorization".to_owned(), "Bearer ".to_owned())]);
    assert_eq!(
        (rule.locations.params.as_slice(), rule.locations.cookies.len()),
        (&["access_token".into()][..], 0)
    );
    assert!(!rule.forward_original_token);
    assert!(!rule.algorithms.iter().any(|name| name.starts_with("HS") || name == "none"));
    assert_eq!((rule.clock_skew.as_secs(), rule.max_token_bytes), (60, 8192));
    assert_eq!((rule.keys.timeout.as_secs(), rule.space_delimited.len()), (5, 0));
}

#[test]
fn places_that_are_named_stand_instead_of_the_usual_ones() {
    let set = parse_ok(&rule(&format!(
        "{URI}, fromHeaders: [{{name: X-Token, prefix: 'JWT '}}], fromCookies: [session], \
         outputClaimToHeaders: [{{header: X-Jwt-Role, claim: realm.role}}], outputPayloadToHeader: X-Jwt"
    )))
    .0;
    let snapshot = snapshot(&set, &[], &workload("bank", "accounts"));
    let rule = &snapshot.authentication().rules[0];
    assert_eq!(rule.locations.headers, [("x-token".to_owned(), "JWT ".to_owned())]);
    assert!(rule.locations.params.is_empty());
    assert_eq!(rule.output_claims, [("x-jwt-role".to_owned(), vec!["realm".to_owned(), "role".to_owned()])]);
    assert_eq!(rule.output_payload_to_header.as_deref(), Some("x-jwt"));
}

#[test]
fn only_workloads_that_are_selected_get_the_rules() {
    let selected = rules("bank", "selector: {matchLabels: {app: edge}}, ", &format!("{{issuer: i, {URI}}}"));
    let set = parse_ok(&(selected + &rules("palisade-system", "", &format!("{{issuer: j, {URI}}}")))).0;
    let issuers = |namespace: &str, name: &str| {
        let snapshot = snapshot(&set, &[], &workload(namespace, name));
        let mut all: Vec<_> =
            snapshot.authentication().rules.iter().map(|rule| rule.issuer.clone()).collect();
        all.sort();
        all
    };
    assert_eq!(issuers("bank", "edge"), ["i", "j"]);
    assert_eq!(issuers("bank", "accounts"), ["j"]);
    assert_eq!(issuers("other", "edge"), ["j"]);
}

#[test]
fn issuers_within_each_other_are_refused_where_they_meet() {
    let object = |name: &str, namespace: &str, app: &str, issuer: &str| {
        let selector = format!("selector: {{matchLabels: {{{app}}}}}, ");
        rules(namespace, &selector, &format!("{{issuer: {issuer}, {URI}}}")).replace("users", name)
    };
    let rows = [
        (object("b", "bank", "app: a", "i/j"), true),
        (object("b", "bank", "", "i/j"), true),
        (object("b", "palisade-system", "", "i/j"), true),
        (object("b", "bank", "app: b", "i/j"), false),
        (object("b", "shop", "app: a", "i/j"), false),
    ];
    for (other, refused) in rows {
        let all = findings(&(object("a", "bank", "app: a", "i") + &other));
        let codes: Vec<_> = all.0.iter().map(|finding| finding.code).collect();
        assert_eq!(codes, if refused { vec!["PAL1804"] } else { vec![] }, "{other}");
    }
}

#[test]
fn what_would_be_unsafe_or_unclear_is_refused_by_code() {
    let keys = r#"jwks: '{"keys":[]}'"#;
    let output = |header: &str| format!("{URI}, outputClaimToHeaders: [{{header: {header}, claim: sub}}]");
    let two =
        |a: &str, b: &str| rules("bank", "", &format!("{{issuer: {a}, {URI}}}, {{issuer: {b}, {URI}}}"));
    let rows = [
        (rule(URI), ""),
        (rule(keys), ""),
        (rule(""), "PAL1801"),
        (rule(&format!("{URI}, {keys}")), "PAL1801"),
        (rule("jwksUri: 'http://auth.example/keys'"), "PAL1801"),
        (rule("jwksUri: 'file:///etc/keys'"), "PAL1801"),
        (rule("jwksUri: /keys"), "PAL1801"),
        (rule("jwks: 'no json'"), "PAL1801"),
        (rule(r#"jwks: '{"keys":[],"keys":[]}'"#), "PAL1801"),
        (rule(&format!("{URI}, fromHeaders: [{{name: 'a b'}}]")), "PAL1802"),
        (rule(&output("x-jwt-sub")), ""),
        (rule(&output("authorization")), "PAL1803"),
        (rule(&output("Host")), "PAL1803"),
        (rule(&output("X_Forwarded_For")), "PAL1803"),
        (rule(&output("x-palisade-user")), "PAL1803"),
        (rule(&output("transfer-encoding")), "PAL1803"),
        (rule(&output("'a b'")), "PAL1803"),
        (rule(&output("x").replace("claim: sub", "claim: a..b")), "PAL1803"),
        (rule(&format!("{URI}, forwardOriginalToken: 'true'")), "PAL0010"),
        (rule("jwksUri: 'https://user:pass@auth.example/keys'"), "PAL1801"),
        (rule("jwksUri: 'https://10.1.2.3/keys'"), "PAL1801"),
        (rule("jwksUri: 'https://[::1]:8443/keys'"), "PAL1801"),
        (rule("jwksUri: 'https://LocalHost/keys'"), "PAL1801"),
        (rule(&format!("{URI}, timeout: 5s, spaceDelimitedClaims: [roles]")), ""),
        (rule(&format!("{URI}, timeout: 50ms")), "PAL1805"),
        (rule(&format!("{URI}, timeout: 31s")), "PAL1805"),
        (rule(&format!("{URI}, timeout: 5")), "PAL0010"),
        (rule(&format!("{URI}, spaceDelimitedClaims: roles")), "PAL0010"),
        (two("i", "i/j"), "PAL1804"),
        (two("i/j", "i"), "PAL1804"),
        (two("i", "i/"), "PAL1804"),
        (two("i", "ij"), ""),
        (two("i", "i"), ""),
        (rule(&format!("{URI}, audience: [a]")), "PAL0008"),
        (rules("bank", "", &format!("{{{URI}}}")), "PAL0012"),
        (rules("bank", "targetRefs: [], ", ""), "PAL0009"),
    ];
    for (text, code) in rows {
        let all = findings(&text);
        let codes: Vec<_> = all.0.iter().map(|finding| finding.code).collect();
        if code.is_empty() {
            assert!(codes.is_empty(), "{text}{codes:?}");
        } else {
            assert!(codes.contains(&code), "{text}{codes:?}");
        }
    }
}
