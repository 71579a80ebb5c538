#![allow(clippy::unwrap_used, reason = "test code")]

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use palisade_policy::kind::virtual_service::cors::Cors;

use super::cors::{Leave, preflight};
use super::route_tests::{only_route, routes};

const POLICY: &str = "allowOrigins: [{exact: 'https://app.example'}], allowMethods: [GET, PUT], \
                      allowHeaders: [authorization], exposeHeaders: [x-total], maxAge: 10m, allowCredentials: true";

fn cors(policy: &str) -> std::sync::Arc<Cors> {
    let text = routes(&format!("{{corsPolicy: {{{policy}}}, route: [{{destination: {{host: accounts}}}}]}}"));
    only_route(&text).cors.clone().unwrap()
}

fn headers(rows: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut out = HeaderMap::new();
    for (name, value) in rows {
        out.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    out
}

/// All lines, sorted, as `name: value`.
fn lines(headers: &HeaderMap) -> Vec<String> {
    let mut out: Vec<String> = headers.iter().map(|(n, v)| format!("{n}: {}", v.to_str().unwrap())).collect();
    out.sort();
    out
}

#[test]
fn a_preflight_is_told_what_is_configured_and_nothing_that_it_asked_for() {
    let asked = headers(&[
        ("origin", "https://app.example"),
        ("access-control-request-method", "DELETE"),
        ("access-control-request-headers", "x-evil"),
    ]);
    let answer = preflight(&cors(POLICY), &Method::OPTIONS, &asked).unwrap();
    assert_eq!(answer.status(), 200);
    assert!(answer.body().is_empty());
    assert_eq!(
        lines(answer.headers()),
        [
            "access-control-allow-credentials: true",
            "access-control-allow-headers: authorization",
            "access-control-allow-methods: GET,PUT",
            "access-control-allow-origin: https://app.example",
            "access-control-max-age: 600",
            "vary: origin",
        ]
    );
}

#[test]
fn a_preflight_without_leave_is_a_request_like_others_or_gets_an_empty_answer() {
    let rows: &[&[(&str, &str)]] = &[
        &[("origin", "https://evil.example")],
        &[("origin", "null")],
        &[("origin", "https://app.example"), ("origin", "https://evil.example")],
    ];
    for row in rows {
        let mut asked = headers(row);
        asked.insert("access-control-request-method", HeaderValue::from_static("PUT"));
        assert!(preflight(&cors(POLICY), &Method::OPTIONS, &asked).is_none(), "{row:?}");
        let ignoring = cors(&format!("{POLICY}, unmatchedPreflights: IGNORE"));
        let answer = preflight(&ignoring, &Method::OPTIONS, &asked).unwrap();
        assert_eq!((answer.status().as_u16(), lines(answer.headers())), (200, vec!["vary: origin".into()]));
    }
}

#[test]
fn what_is_no_preflight_is_not_answered_here() {
    let origin = ("origin", "https://app.example");
    let wanted = ("access-control-request-method", "PUT");
    let cors = cors(POLICY);
    assert!(preflight(&cors, &Method::GET, &headers(&[origin, wanted])).is_none());
    assert!(preflight(&cors, &Method::OPTIONS, &headers(&[origin])).is_none());
    assert!(preflight(&cors, &Method::OPTIONS, &headers(&[wanted])).is_none());
}

#[test]
fn the_upstreams_own_word_about_origins_is_replaced() {
    let upstream = [
        ("access-control-allow-origin", "https://evil.example"),
        ("access-control-allow-origin", "*"),
        ("access-control-allow-credentials", "true"),
        ("access-control-expose-headers", "set-cookie"),
        ("access-control-allow-private-network", "true"),
        ("vary", "accept"),
    ];
    type Row<'a> = (&'a str, &'a [(&'static str, &'static str)], &'a [&'a str]);
    let rows: &[Row<'_>] = &[
        (
            POLICY,
            &[("origin", "https://app.example")],
            &[
                "access-control-allow-credentials: true",
                "access-control-allow-origin: https://app.example",
                "access-control-expose-headers: x-total",
                "vary: accept",
                "vary: origin",
            ],
        ),
        (POLICY, &[("origin", "https://evil.example")], &["vary: accept", "vary: origin"]),
        (POLICY, &[], &["vary: accept", "vary: origin"]),
        (
            "allowOrigins: [{exact: '*'}]",
            &[("origin", "https://any.example")],
            &["access-control-allow-origin: *", "vary: accept"],
        ),
    ];
    for (policy, asked, expected) in rows {
        let leave = Leave::of(&cors(policy), &headers(asked));
        let mut answer = headers(&upstream);
        leave.write(&mut answer);
        assert_eq!(lines(&answer), *expected, "{policy} {asked:?}");
    }
}
