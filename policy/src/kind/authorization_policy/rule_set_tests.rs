//! The index against trying every rule.

use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderMap;
use palisade_identity::SpiffeId;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::finding::problem::Problems;
use crate::kind::Meta;
use crate::kind::authorization_policy::build::build;
use crate::kind::authorization_policy::{
    Action, AuthorizationPolicySpec, Condition, Operation, Rule, Source,
};
use crate::kind::trust_domains::TrustDomains;
use crate::request::token::Token;

const PRINCIPALS: &[&str] = &["corp.example/ns/bank/sa/a", "corp.example/ns/bank/*", "*/sa/b", "*"];
const NAMESPACES: &[&str] = &["bank", "b*", "*nk", "shop"];
const ACCOUNTS: &[&str] = &["a", "bank/b", "shop/a"];
const USERS: &[&str] = &["https://i/u", "https://i/*", "*/v"];
const METHODS: &[&str] = &["GET", "POST", "P*", "*"];
const PATHS: &[&str] = &["/a", "/a/b", "/a*", "*b", "/a/{*}", "/{**}", "/a/{**}/b", "/", "*"];
const HOSTS: &[&str] = &["h.example", "H.example:80", "*.example", "h.*", "h.example."];
const PORTS: &[&str] = &["80", "8080"];
const VALUES: &[&str] = &["x", "x*", "*y", "*"];
const BLOCKS: &[&str] = &[
    "10.0.0.0/8",
    "10.0.0.1",
    "0.0.0.0/0",
    "10.0.0.0/31",
    "10.0.0.2/31",
    "::/0",
    "fd00::/7",
    "fd00::1",
    "::ffff:10.0.0.1",
];
const KEYS: &[&str] = &[
    "request.headers[x-role]",
    "request.auth.claims[role]",
    "request.auth.claims[deep][role]",
    "request.auth.audiences",
    "source.namespace",
    "source.ip",
    "destination.ip",
    "connection.sni",
    "destination.port",
];

fn some(values: &'static [&'static str]) -> impl Strategy<Value = Vec<String>> {
    prop_oneof![
        2 => Just(Vec::new()),
        1 => vec(select(values), 1..3).prop_map(|v| v.into_iter().map(Into::into).collect()),
    ]
}

fn source() -> impl Strategy<Value = Source> {
    (some(PRINCIPALS), some(PRINCIPALS), some(NAMESPACES), some(ACCOUNTS), some(USERS)).prop_map(
        |(principals, not_principals, namespaces, service_accounts, request_principals)| Source {
            // Names of accounts stand alone in a source.
            principals: if service_accounts.is_empty() { principals } else { Vec::new() },
            namespaces: if service_accounts.is_empty() { namespaces } else { Vec::new() },
            not_principals,
            service_accounts,
            request_principals,
            ..Source::default()
        },
    )
}

fn operation() -> impl Strategy<Value = Operation> {
    (some(METHODS), some(PATHS), some(PATHS), some(HOSTS), some(PORTS)).prop_map(
        |(methods, paths, not_paths, hosts, ports)| Operation {
            methods,
            paths,
            not_paths,
            hosts,
            ports,
            ..Operation::default()
        },
    )
}

fn condition() -> impl Strategy<Value = Condition> {
    (select(KEYS), vec(0..12_usize, 0..3), vec(0..12_usize, 0..3)).prop_map(|(key, values, not_values)| {
        let suited = match key {
            "source.ip" | "destination.ip" => BLOCKS,
            "destination.port" => PORTS,
            _ => VALUES,
        };
        let suit = |values: Vec<usize>| -> Vec<String> {
            values.iter().map(|at| suited[at % suited.len()].to_owned()).collect()
        };
        Condition { key: key.into(), values: suit(values), not_values: suit(not_values) }
    })
}

fn spec() -> impl Strategy<Value = AuthorizationPolicySpec> {
    let rule = (vec(source(), 0..3), vec(operation(), 0..3), vec(condition(), 0..2))
        .prop_map(|(from, to, when)| Rule { from, to, when });
    (select(vec![Action::Allow, Action::Deny]), vec(rule, 1..12))
        .prop_map(|(action, rules)| AuthorizationPolicySpec { action, rules, ..Default::default() })
}

#[derive(Clone, Debug)]
struct Asked {
    peer: Option<SpiffeId>,
    method: &'static str,
    path: &'static str,
    host: &'static str,
    address: IpAddr,
    port: u16,
    headers: Vec<&'static str>,
    token: Option<Token>,
}

fn asked() -> impl Strategy<Value = Asked> {
    let peer =
        select(vec![None, Some("ns/bank/sa/a"), Some("ns/bank/sa/b"), Some("ns/shop/sa/a"), Some("other")]);
    let token = proptest::option::of((select(vec![None, Some("u"), Some("v")]), vec(select(VALUES), 0..3)));
    (
        peer,
        select(vec!["GET", "POST", "PUT"]),
        select(vec!["/", "/a", "/a/", "/a/b", "/a/c/b", "/ab", "/b"]),
        select(vec!["h.example", "H.EXAMPLE", "h.example:80", "h.example.", "h.example.:80", "x"]),
        (
            select(vec!["10.0.0.1", "10.0.0.3", "11.0.0.1", "fd00::1", "fe80::1", "::ffff:10.0.0.1"]),
            select(vec![80, 8080, 9090]),
        ),
        vec(select(vec!["x", "xx", "yy", " x ", ""]), 0..3),
        token,
    )
        .prop_map(|(peer, method, path, host, (address, port), headers, token)| Asked {
            peer: peer.map(|path| SpiffeId::parse(&format!("spiffe://corp.example/{path}")).unwrap()),
            method,
            path,
            host,
            address: address.parse().unwrap(),
            port,
            headers,
            token: token.map(|(subject, roles)| self::token(subject, &roles)),
        })
}

fn token(subject: Option<&str>, roles: &[&str]) -> Token {
    let claims = serde_json::json!({ "role": roles, "deep": { "role": roles.first() } });
    Token {
        issuer: "https://i".into(),
        subject: subject.map(Into::into),
        principal: subject.map(|subject| format!("https://i/{subject}")),
        audiences: roles.iter().map(|role| (*role).to_owned()).collect(),
        presenter: None,
        claims: claims.as_object().unwrap().clone(),
        space_delimited: Arc::default(),
    }
}

/// Of the rules that are no errors: sources that ask nothing are, and the like.
fn compiled(spec: &AuthorizationPolicySpec) -> Vec<CompiledRule> {
    let meta = Meta { namespace: "bank".into(), name: "p".into(), ..Meta::default() };
    let domains = TrustDomains::new("corp.example", &[]);
    let one = |rule: &Rule| {
        let spec = AuthorizationPolicySpec { rules: vec![rule.clone()], ..spec.clone() };
        let mut problems = Problems::default();
        let mut rules = build(&meta, &spec, &domains, &mut problems);
        (!problems.has_errors()).then(|| rules.remove(0))
    };
    spec.rules.iter().filter_map(one).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_index_finds_what_trying_every_rule_finds(spec in spec(), asked in vec(asked(), 1..8)) {
        let rules = compiled(&spec);
        let set: RuleSet = named("bank", "p", rules.clone()).collect();
        for asked in &asked {
            let mut headers = HeaderMap::new();
            for value in &asked.headers {
                headers.append("x-role", value.parse().unwrap());
            }
            let view = RequestView {
                peer: asked.peer.as_ref(),
                source_ip: asked.address,
                remote_ip: asked.address,
                destination_ip: asked.address,
                destination_port: asked.port,
                method: asked.method,
                path: asked.path,
                host: asked.host,
                headers: &headers,
                sni: Some("x"),
                token: asked.token.as_ref(),
            };
            let tried: Vec<usize> = (0..rules.len()).filter(|at| rules[*at].matches(&view)).collect();
            let found: Vec<usize> = set.matching(&view).map(|name| name.rule).collect();
            prop_assert_eq!(&found, &tried);
            prop_assert_eq!(set.first_match(&view).map(|name| name.rule), tried.first().copied());
        }
    }
}
