//! What is refused, with its code.

use super::support::findings;
use super::{GATEWAY, routes, virtual_service};

const TO: &str = "route: [{destination: {host: accounts}}]";

fn codes(text: &str) -> Vec<&'static str> {
    findings(text).0.iter().map(|finding| finding.code).collect()
}

#[track_caller]
fn check(rows: &[(String, &str)]) {
    for (text, code) in rows {
        let text = format!("{GATEWAY}{text}");
        let all = findings(&text);
        let codes = codes(&text);
        if code.is_empty() {
            assert!(codes.is_empty(), "{text}{all:?}");
        } else {
            assert!(codes.contains(code), "{text}{all:?}");
        }
    }
}

#[test]
fn objects() {
    let row = |spec: &str, code| (virtual_service("bank", "v", &spec.replace("TO", TO)), code);
    check(&[
        row("{hosts: [a.example], gateways: [public], http: [{TO}]}", ""),
        row("{gateways: [public], http: [{TO}]}", "PAL0012"),
        row("{hosts: [a.example], gateways: [public]}", "PAL0012"),
        row("{hosts: [a.example], gateways: [public], http: []}", "PAL1709"),
        row("{hosts: [ledger], http: [{TO}]}", ""),
        row("{hosts: [ledger], gateways: [mesh], http: [{TO}]}", ""),
        row("{hosts: [ledger, a.example], gateways: [mesh, public], http: [{TO}]}", ""),
        row("{hosts: ['*.example'], http: [{TO}]}", "PAL1201"),
        row("{hosts: ['*'], gateways: [mesh, public], http: [{TO}]}", "PAL1201"),
        row("{hosts: [ledger], gateways: [mesh, mesh], http: [{TO}]}", "PAL1701"),
        row("{hosts: [a.example], gateways: [a/b/c], http: [{TO}]}", "PAL1701"),
        row("{hosts: [a.example], gateways: [public, public], http: [{TO}]}", "PAL1701"),
        row("{hosts: [A.example], gateways: [public], http: [{TO}]}", "PAL1201"),
        row("{hosts: ['a.example:443'], gateways: [public], http: [{TO}]}", "PAL1201"),
        row("{hosts: [a.example, a.example], gateways: [public], http: [{TO}]}", "PAL0103"),
        row("{hosts: [a.example], gateways: [public], http: [{TO}], tcp: []}", "PAL0009"),
        row("{hosts: [a.example], gateways: [public], http: [{TO}], tls: []}", "PAL0009"),
        row("{hosts: [a.example], gateways: [public], http: [{TO}], exportTo: ['.']}", ""),
        row("{hosts: [a.example], gateways: [public], http: [{TO}], exportTo: ['*']}", ""),
        row("{hosts: [a.example], gateways: [public], http: [{TO}], exportTo: [shop]}", "PAL1206"),
        row("{hosts: [a.example], gateways: [public], http: [{name: a, TO}, {name: a, TO}]}", "PAL1713"),
        row("{hosts: [a.example], gateways: [public], http: [{name: '1', TO}, {TO}]}", "PAL1713"),
        row("{hosts: [a.example], gateways: [public], http: [{name: a/b, TO}]}", "PAL0014"),
    ]);
}

#[test]
fn what_a_route_does() {
    let row = |route: &str, code| (routes(&format!("{{{}}}", route.replace("TO", TO))), code);
    check(&[
        row("name: a", "PAL1705"),
        row("TO, redirect: {uri: /}", "PAL1705"),
        row("redirect: {uri: /}, directResponse: {status: 200}", "PAL1705"),
        row("redirect: {uri: /}, rewrite: {uri: /}", "PAL1705"),
        row("redirect: {uri: /}, timeout: 1s", "PAL1705"),
        row("directResponse: {status: 200}, mirror: {host: ledger}", "PAL1705"),
        row("directResponse: {status: 200}, headers: {request: {set: {a: b}}}", "PAL1705"),
        row("directResponse: {status: 200}, headers: {response: {set: {a: b}}}", ""),
        row("redirect: {uri: /}, retries: {attempts: 2}", "PAL1705"),
        row("redirect: {uri: /}, fault: {abort: {percentage: {value: 1}, httpStatus: 503}}", "PAL1705"),
        row("TO, delegate: {name: a}", "PAL0009"),
        row("TO, mirrorPercent: 10", "PAL0009"),
        row("TO, mirror: {host: ledger}, mirrors: [{destination: {host: ledger}}]", "PAL1705"),
        row("TO, mirrorPercentage: {value: 1}", "PAL1705"),
        row("TO, mirror: {host: ledger}, mirrorPercentage: {value: 0.1}", ""),
        row("TO, mirror: {host: ledger}, mirrorPercentage: {value: 100.1}", "PAL1709"),
        row("TO, mirrors: [{destination: {host: LEDGER}}]", "PAL1201"),
        row("TO, timeout: 0s", "PAL1709"),
        row("TO, timeout: 2h", "PAL1709"),
        row("TO, timeout: 1500ms", ""),
        row("route: [{destination: {host: accounts, subset: v1}}]", "PAL0109"),
        row("TO, mirror: {host: accounts, subset: v1}", "PAL0109"),
        row("route: [{destination: {host: accounts, subset: ''}}]", "PAL0013"),
        row("route: [{destination: {host: 'http://x'}}]", "PAL1201"),
        row("route: [{weight: 1}]", "PAL0012"),
        row("route: [{destination: {host: a}, weight: 0}, {destination: {host: b}}]", "PAL1707"),
        row("route: [{destination: {host: a}, weight: 1}, {destination: {host: b}}]", "PAL1707"),
        row(
            "route: [{destination: {host: a}, weight: 4294967295}, {destination: {host: b}, weight: 1}]",
            "PAL1707",
        ),
        row("route: [{destination: {host: a}, weight: 1}, {destination: {host: b}, weight: 0}]", ""),
        row("redirect: {}", "PAL1710"),
        row("redirect: {uri: /, redirectCode: 200}", "PAL1709"),
        row("redirect: {uri: //evil.example}", "PAL1710"),
        row("redirect: {uri: 'https://evil.example'}", "PAL1710"),
        row("redirect: {authority: 'user@evil.example'}", "PAL1710"),
        row("redirect: {scheme: javascript}", "PAL1710"),
        row("redirect: {uri: /, derivePort: FROM_REQUEST_PORT}", "PAL0009"),
        row("directResponse: {status: 101}", "PAL1709"),
        row("directResponse: {status: 204, body: {string: a}}", "PAL1709"),
        row("directResponse: {status: 200, body: {bytes: '%'}}", "PAL0011"),
        row("directResponse: {status: 200, body: {}}", "PAL1705"),
        row("TO, rewrite: {}", "PAL1710"),
        row("TO, rewrite: {uri: a}", "PAL1710"),
        row("TO, rewrite: {uri: /a/../b}", "PAL1710"),
        row("TO, rewrite: {uri: '/a?b'}", "PAL1710"),
        row("TO, rewrite: {authority: 'a b'}", "PAL1710"),
        row("TO, rewrite: {uri: /a, uriRegexRewrite: {match: a, rewrite: b}}", "PAL1710"),
        row(r"TO, rewrite: {uriRegexRewrite: {match: a, rewrite: '\1'}}", "PAL1710"),
        row("TO, rewrite: {uriRegexRewrite: {match: '(', rewrite: b}}", "PAL1706"),
    ]);
}

#[test]
fn matches_that_never_fit_or_always_do() {
    let row = |item: &str, code| (routes(&format!("{{match: [{{{item}}}], {TO}}}")), code);
    check(&[
        row("", "PAL1011"),
        row("uri: {}", "PAL1706"),
        row("uri: {exact: /a, prefix: /b}", "PAL1706"),
        row("uri: {regex: '('}", "PAL1706"),
        row("uri: {regex: '/a'}, ignoreUriCase: true", "PAL1706"),
        row("ignoreUriCase: true", "PAL1706"),
        row("uri: {suffix: a}", "PAL0008"),
        row("uri: {exact: a}", "PAL1016"),
        row("uri: {exact: '/a?b'}", "PAL1016"),
        row("method: {exact: get}", "PAL1016"),
        row("authority: {exact: 'a.example:443'}", "PAL1016"),
        row("authority: {exact: A.example}", "PAL1016"),
        row("scheme: {exact: ftp}", "PAL1016"),
        row("headers: {X-A: {exact: b}}", "PAL1708"),
        row("headers: {authority: {exact: b}}", "PAL1708"),
        row("headers: {':path': {exact: b}}", "PAL1708"),
        row("queryParams: {'a=b': {}}", "PAL1706"),
        row("sourceLabels: {app: a}", "PAL1701"),
        row("sourceNamespace: a", "PAL1701"),
        row("gateways: [public]", ""),
        row("gateways: [bank/public]", ""),
        row("gateways: [partner]", "PAL1016"),
        row("gateways: [mesh]", "PAL1016"),
        row("statPrefix: a", "PAL0009"),
        row("port: 0", "PAL1006"),
    ]);
}

#[test]
fn more_programs_than_an_edge_should_hold() {
    let items = |count: usize| vec!["{uri: {regex: '/a'}}"; count].join(", ");
    check(&[
        (routes(&format!("{{match: [{}], {TO}}}", items(200))), ""),
        (routes(&format!("{{match: [{}], {TO}}}", items(201))), "PAL1709"),
        (routes(&format!("{{match: [{{uri: {{regex: '.{{1000}}.{{1000}}'}}}}], {TO}}}")), "PAL1706"),
    ]);
}

/// What says who is calling is the proxy's to say, under every spelling.
#[test]
fn headers_that_no_route_may_touch() {
    let mut rows = Vec::new();
    for name in [
        "x-forwarded-client-cert",
        "X-Forwarded-Client-Cert",
        "x_forwarded_client_cert",
        "x-palisade-decision-id",
        "x_palisade_subject",
        "x-forwarded-for",
        "x-forwarded-proto",
        "forwarded",
        "x-real-ip",
        "x-request-id",
        "host",
        "':authority'",
        "content-length",
        "transfer-encoding",
        "connection",
        "upgrade",
        "te",
        "proxy-authorization",
        "'a b'",
    ] {
        for change in
            [format!("set: {{{name}: v}}"), format!("add: {{{name}: v}}"), format!("remove: [{name}]")]
        {
            rows.push((routes(&format!("{{headers: {{request: {{{change}}}}}, {TO}}}")), "PAL1708"));
            let target = format!("{{destination: {{host: accounts}}, headers: {{request: {{{change}}}}}}}");
            rows.push((routes(&format!("{{route: [{target}]}}")), "PAL1708"));
        }
    }
    for change in
        ["set: {content-length: '1'}", "set: {x-palisade-a: b}", "remove: [connection]", "set: {a: '%B%'}"]
    {
        rows.push((routes(&format!("{{headers: {{response: {{{change}}}}}, {TO}}}")), "PAL1708"));
    }
    let both = "headers: {request: {set: {a: b}}}";
    rows.push((routes(&format!("{{{both}, route: [{{destination: {{host: a}}, {both}}}]}}")), "PAL1708"));
    let cors = "corsPolicy: {allowOrigins: [{exact: '*'}]}, headers: {response: {set: {access-control-max-age: '1'}}}";
    rows.push((routes(&format!("{{{cors}, {TO}}}")), "PAL1708"));
    check(&rows);
}

#[test]
fn cors_policies_that_let_in_more_than_they_name() {
    let row = |policy: &str, code| (routes(&format!("{{corsPolicy: {{{policy}}}, {TO}}}")), code);
    check(&[
        row("allowOrigins: [{exact: '*'}]", ""),
        row("allowOrigins: [{exact: '*'}], allowCredentials: true", "PAL1711"),
        row("allowOrigins: [{regex: '.*'}], allowCredentials: true", "PAL1711"),
        row("allowOrigins: [{regex: 'https://.+'}], allowCredentials: true", "PAL1711"),
        row("allowOrigins: [{prefix: 'https://'}], allowCredentials: true", "PAL1711"),
        row("allowOrigins: [{prefix: 'http:'}], allowCredentials: true", "PAL1711"),
        row("allowOrigins: [{regex: 'http://.+'}], allowCredentials: true", "PAL1711"),
        row(r"allowOrigins: [{regex: 'https://.+\.com'}], allowCredentials: true", "PAL1711"),
        row("allowOrigins: [{regex: 'https://[^/]+:8443'}], allowCredentials: true", "PAL1711"),
        row("allowOrigins: [{prefix: 'https://app.example'}], allowCredentials: true", "PAL1711"),
        row("allowOrigins: [{prefix: 'https://app.example'}]", "PAL1711"),
        row("allowOrigins: [{prefix: 'https://app.example:'}], allowCredentials: true", ""),
        row("allowOrigins: [{exact: 'null'}], allowCredentials: true", "PAL1711"),
        row("allowOrigins: [{exact: 'https://app.example'}], allowCredentials: true", ""),
        row("allowMethods: [GET]", "PAL1712"),
        row("allowOrigins: [{exact: app.example}]", "PAL1712"),
        row("allowOrigins: [{exact: 'https://app.example/'}]", "PAL1712"),
        row("allowOrigins: [{exact: 'https://App.example'}]", "PAL1712"),
        row("allowOrigins: [{exact: 'https://a.example'}], allowMethods: ['G T']", "PAL1712"),
        row("allowOrigins: [{exact: 'https://a.example'}], allowHeaders: ['*']", ""),
        row(
            "allowOrigins: [{exact: 'https://a.example'}], allowHeaders: ['*'], allowCredentials: true",
            "PAL1712",
        ),
        row("allowOrigins: [{exact: 'https://a.example'}], maxAge: 48h", "PAL1709"),
        row("allowOrigin: ['*']", "PAL0009"),
        row("allowOrigins: [{exact: 'https://a.example'}], unmatchedPreflights: DROP", "PAL0011"),
    ]);
}
