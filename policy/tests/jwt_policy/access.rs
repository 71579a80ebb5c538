use palisade_policy::Snapshot;
use palisade_policy::kind::request_match::MatchView;
use palisade_policy::request::token::Token;

use crate::support::{parse_ok, snapshot, workload};
use crate::{URI, codes, policy, reader};

const PAYMENTS: &str = "rules: [
  {name: login, match: [{paths: [/login]}], access: public},
  {name: health, match: [{hosts: [api.example], paths: [/health]}], access: public},
  {name: transfers, match: [{methods: [POST], paths: [/transfers]}], access: token,
   scopes: [payments.write, mfa], audiences: ['https://payments.example', 'https://other.example']},
  {name: rest, access: token}]";

fn bank(policies: &str) -> Snapshot {
    snapshot(&parse_ok(&(reader(URI) + policies)).0, &[], &workload("bank", "edge"))
}

fn token(claims: &str) -> Option<Token> {
    let text = format!(r#"{{"iss":"https://auth.example","sub":"alice"{claims}}}"#);
    Some(Token::parse(text.as_bytes()).unwrap().0)
}

/// `""`: passes.
fn ask(snapshot: &Snapshot, method: &str, path: &str, token: Option<&Token>) -> &'static str {
    at(snapshot, "api.example", method, path, None, token)
}

fn at(
    snapshot: &Snapshot,
    host: &str,
    method: &str,
    path: &str,
    route: Option<&str>,
    token: Option<&Token>,
) -> &'static str {
    let view = MatchView { host, method, path, route };
    snapshot.authentication().demand(&view, token).err().map_or("", |unmet| unmet.code())
}

#[test]
fn the_first_rule_that_matches_says_what_a_request_must_bring() {
    let bank = bank(&policy("api", PAYMENTS));
    let (plain, audience) = (token(""), r#","aud":["x","https://payments.example"]"#);
    let reader = token(&format!(r#"{audience},"scope":"payments.read mfa""#));
    let writer = token(&format!(r#"{audience},"scope":"mfa payments.write""#));
    let listed = token(&format!(r#"{audience},"scp":["payments.write","mfa"]"#));
    let apart = token(&format!(r#"{audience},"scope":"payments.write","scp":"mfa""#));
    let elsewhere = token(r#","aud":"https://payments.example/x","scope":"payments.write mfa""#);
    let rows = [
        ("GET", "/login", None, ""),
        ("GET", "/login/x", None, "token_required"),
        ("GET", "/health", None, ""),
        ("POST", "/transfers", None, "token_required"),
        ("POST", "/transfers", plain.as_ref(), "token_rule_audience"),
        ("POST", "/transfers", elsewhere.as_ref(), "token_rule_audience"),
        ("POST", "/transfers", reader.as_ref(), "token_scope"),
        ("POST", "/transfers", writer.as_ref(), ""),
        ("POST", "/transfers", listed.as_ref(), ""),
        ("POST", "/transfers", apart.as_ref(), ""),
        ("GET", "/transfers", None, "token_required"),
        ("GET", "/transfers", plain.as_ref(), ""),
    ];
    for (method, path, token, expected) in rows {
        assert_eq!(ask(&bank, method, path, token), expected, "{method} {path} {token:?}");
    }
    // What lets something off takes a host as it is written; what asks for something takes every spelling.
    for host in ["api.example.", "other.example"] {
        assert_eq!(at(&bank, host, "GET", "/health", None, None), "token_required", "{host}");
    }
}

#[test]
fn a_refusal_names_its_rule_and_the_scopes_that_would_do() {
    use palisade_policy::kind::jwt_policy::access::Lack;
    let bank = bank(&policy("api", PAYMENTS));
    let token = token(r#","aud":"https://other.example""#);
    let view = MatchView { host: "h", method: "POST", path: "/transfers", route: None };
    let unmet = bank.authentication().demand(&view, token.as_ref()).unwrap_err();
    assert_eq!(unmet.lack, Lack::Scope("payments.write mfa".into()));
    assert_eq!((&*unmet.rule.namespace, &*unmet.rule.policy, unmet.rule.rule), ("bank", "api", 2));
}

#[test]
fn every_policy_is_asked_and_one_without_a_rule_for_a_request_asks_nothing() {
    let open = policy("open", "rules: [{name: all, access: public}]");
    let closed =
        policy("shut", "rules: [{name: admin, match: [{paths: [/admin]}], access: token, scopes: [admin]}]");
    let bank = bank(&(open + &closed));
    assert_eq!(ask(&bank, "GET", "/", None), "");
    assert_eq!(ask(&bank, "GET", "/admin", None), "token_required");
    assert_eq!(ask(&bank, "GET", "/admin", token("").as_ref()), "token_scope");
    assert_eq!(ask(&bank, "GET", "/admin", token(r#","scope":"admin""#).as_ref()), "");
}

#[test]
fn a_rule_by_route_counts_where_routes_are() {
    let spec =
        "rules: [{name: open, match: [{routes: [login]}], access: public}, {name: rest, access: token}]";
    let bank = bank(&policy("api", spec));
    assert_eq!(at(&bank, "h", "GET", "/", Some("bank/api/login"), None), "");
    assert_eq!(at(&bank, "h", "GET", "/", Some("bank/api/pay"), None), "token_required");
    assert_eq!(at(&bank, "h", "GET", "/", None, None), "token_required");
    assert_eq!(codes(&(reader(URI) + &policy("api", spec))), ["PAL1016"]);
}

#[test]
fn rules_that_do_not_mean_what_they_say_are_refused_by_code() {
    let with = |rules: &str| reader(URI) + &policy("api", &format!("rules: [{rules}]"));
    let rows = [
        (with("{name: a, access: token}"), vec![]),
        (with("{name: a, access: public}"), vec![]),
        (with("{access: token}"), vec!["PAL0012"]),
        (with("{name: a}"), vec!["PAL0012"]),
        (with("{name: a, access: none}"), vec!["PAL0011"]),
        (with("{name: a, requireToken: true, access: token}"), vec!["PAL0009"]),
        (with("{name: 'a b', access: token}"), vec!["PAL0014"]),
        (with("{name: a, access: public, scopes: [x]}"), vec!["PAL1905"]),
        (with("{name: a, access: public, audiences: [x]}"), vec!["PAL1905"]),
        (with("{name: a, access: token, scopes: ['a b']}"), vec!["PAL1905"]),
        (with(r#"{name: a, access: token, scopes: ['a"b']}"#), vec!["PAL1905"]),
        (with("{name: a, access: token, scopes: [é]}"), vec!["PAL1905"]),
        (with("{name: a, access: public}, {name: b, access: token}"), vec!["PAL1905"]),
        (
            with("{name: a, match: [{paths: [/a]}], access: public}, {name: a, access: token}"),
            vec!["PAL1905"],
        ),
        (with("{name: a, match: [{}], access: public}"), vec!["PAL1011"]),
        (with("{name: a, match: [{paths: [a]}], access: public}"), vec!["PAL1016"]),
    ];
    for (text, expected) in rows {
        assert_eq!(codes(&text), expected, "{text}");
    }
}

#[test]
fn a_token_is_not_asked_for_where_none_is_read() {
    let edge = "selector: {matchLabels: {app: edge}}, ";
    let rules = "rules: [{name: rest, access: token}]";
    let public = "rules: [{name: rest, access: public}]";
    let at_edge = reader(URI).replace("{jwtRules", &format!("{{{edge}jwtRules"));
    let elsewhere = at_edge.replace("app: edge", "app: other");
    let rows = [
        (policy("api", rules), vec!["PAL1906"]),
        (policy("api", public), vec![]),
        (elsewhere + &policy("api", &format!("{edge}{rules}")), vec!["PAL1906"]),
        (at_edge.clone() + &policy("api", &format!("{edge}{rules}")), vec![]),
        (reader(URI) + &policy("api", &format!("{edge}{rules}")), vec![]),
        // A warning: the other workloads of the namespace refuse everything.
        (at_edge + &policy("api", rules), vec!["PAL1906"]),
        (reader(URI).replace("namespace: bank", "namespace: shop") + &policy("api", rules), vec!["PAL1906"]),
        (
            reader(URI).replace("namespace: bank", "namespace: palisade-system") + &policy("api", rules),
            vec![],
        ),
    ];
    for (text, expected) in rows {
        assert_eq!(codes(&text), expected, "{text}");
    }
}
