//! `requestPrincipals` and `request.auth.*`.

use super::support::{Ask, findings};
use super::{check, one};

fn alice() -> Ask {
    Ask::new().token(
        r#"{"iss":"https://auth.example","sub":"alice","azp":"app","aud":["api","admin"],
            "scope":"payments:read payments:write","groups":["staff","ops"],"level":3,"vip":true,
            "realm":{"roles":["clerk"],"name":"north south"},"a.b":"flat","empty":"","none":[]}"#,
    )
}

fn principals(fields: &str) -> String {
    format!("{{from: [{{source: {{{fields}}}}}]}}")
}

fn when(key: &str, values: &str) -> String {
    format!("{{when: [{{key: '{key}', {values}}}]}}")
}

#[test]
fn the_end_user_is_issuer_and_subject() {
    for fields in [
        "requestPrincipals: ['https://auth.example/alice']",
        "requestPrincipals: ['https://auth.example/*']",
        "requestPrincipals: ['*/alice']",
        "requestPrincipals: ['*']",
        "notRequestPrincipals: ['https://auth.example/bob']",
    ] {
        check(&principals(fields), &alice(), true);
    }
    for fields in [
        "requestPrincipals: ['https://auth.example/bob']",
        "requestPrincipals: ['https://AUTH.example/alice']",
        "requestPrincipals: ['alice']",
        "requestPrincipals: ['https://auth.example']",
        "notRequestPrincipals: ['*']",
        "notRequestPrincipals: ['*/alice']",
    ] {
        check(&principals(fields), &alice(), false);
    }
    check(&when("request.auth.principal", "values: ['*/alice']"), &alice(), true);
    check(&when("request.auth.principal", "notValues: ['*/alice']"), &alice(), false);
}

#[test]
fn no_subject_can_be_written_so_that_it_becomes_another_issuers_user() {
    let nested = Ask::new().token(r#"{"iss":"https://auth.example","sub":"tenant/alice"}"#);
    let other = Ask::new().token(r#"{"iss":"https://auth.example/tenant","sub":"alice"}"#);
    let rule = principals("requestPrincipals: ['https://auth.example/tenant/alice']");
    check(&rule, &nested, false);
    check(&rule, &other, true);
    let escaped = Ask::new().token(r#"{"iss":"https://auth.example","sub":"tenant%2Falice"}"#);
    let rule = principals("requestPrincipals: ['https://auth.example/tenant%2Falice']");
    check(&rule, &nested, true);
    check(&rule, &escaped, false);
}

#[test]
fn a_token_without_a_subject_is_nobody() {
    let ask = Ask::new().token(r#"{"iss":"https://auth.example"}"#);
    check(&principals("requestPrincipals: ['*']"), &ask, false);
    check(&principals("notRequestPrincipals: ['*']"), &ask, true);
}

#[test]
fn audiences_and_presenter() {
    for (key, values, fits) in [
        ("request.auth.audiences", "values: [api]", true),
        ("request.auth.audiences", "values: [admin]", true),
        ("request.auth.audiences", "values: [adm]", false),
        ("request.auth.audiences", "notValues: [admin]", false),
        ("request.auth.audiences", "notValues: [other]", true),
        ("request.auth.presenter", "values: [app]", true),
        ("request.auth.presenter", "values: [other]", false),
    ] {
        check(&when(key, values), &alice(), fits);
    }
}

#[test]
fn claims_are_texts_lists_of_texts_and_lists_delimited_by_spaces() {
    for (key, values, fits) in [
        ("scope", "values: ['payments:write']", true),
        ("scope", "values: ['payments:*']", true),
        ("scope", "values: ['payments:writ']", false),
        ("scope", "values: ['payments:read payments:write']", false),
        ("scope", "notValues: ['payments:write']", false),
        ("groups", "values: [ops]", true),
        ("groups", "values: [root]", false),
        ("groups", "values: [ops], notValues: [staff]", false),
        ("realm][roles", "values: [clerk]", true),
        ("realm][name", "values: [north]", false),
        ("realm][name", "values: ['north south']", true),
        ("a.b", "values: [flat]", true),
        ("a][b", "values: [flat]", false),
        ("Groups", "values: [ops]", false),
    ] {
        check(&when(&format!("request.auth.claims[{key}]"), values), &alice(), fits);
    }
}

#[test]
fn what_is_no_text_is_absent() {
    for key in ["level", "vip", "realm", "empty][x", "none", "missing", "groups][0"] {
        let key = format!("request.auth.claims[{key}]");
        check(&when(&key, "values: ['*', '3', 'true']"), &alice(), false);
        check(&when(&key, "notValues: ['3', 'true']"), &alice(), true);
    }
    check(&when("request.auth.claims[empty]", "values: ['*']"), &alice(), false);
}

#[test]
fn a_rule_about_tokens_where_nothing_reads_them_is_noticed() {
    let policy = one("DENY", &principals("notRequestPrincipals: ['*']"));
    let reader = |namespace: &str, labels: &str| {
        format!(
            "---\napiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {{name: r, namespace: {namespace}}}\n\
             spec: {{selector: {{matchLabels: {{{labels}}}}}, jwtRules: [{{issuer: i, jwksUri: 'https://auth.example/k'}}]}}\n"
        )
    };
    let noticed = |text: &str| findings(text).0.iter().any(|f| f.code == "PAL1014");
    assert!(noticed(&policy));
    assert!(noticed(&format!("{policy}{}", reader("shop", "app: ledger"))));
    assert!(!noticed(&format!("{policy}{}", reader("bank", "app: ledger"))));
    assert!(!noticed(&format!("{policy}{}", reader("palisade-system", "app: ledger"))));
    let selective = policy.replace("spec: {", "spec: {selector: {matchLabels: {app: web}}, ");
    assert!(noticed(&format!("{selective}{}", reader("bank", "app: ledger"))));
    assert!(!noticed(&format!("{selective}{}", reader("bank", "app: web"))));
}

#[test]
fn claims_that_the_token_rule_lists_are_split_at_spaces_and_nested_ones_never() {
    let mut ask = Ask::new().token(
        r#"{"iss":"https://auth.example","roles":"admin clerk","other":"admin clerk","realm":{"roles":"admin clerk"}}"#,
    );
    ask.token.as_mut().unwrap().space_delimited = ["roles".to_owned()].into();
    for (key, fits) in [("roles", true), ("other", false), ("realm][roles", false)] {
        check(&when(&format!("request.auth.claims[{key}]"), "values: [admin]"), &ask, fits);
        check(&when(&format!("request.auth.claims[{key}]"), "values: ['admin clerk']"), &ask, !fits);
    }
}
