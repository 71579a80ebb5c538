//! At an edge: hosts, routes, guards, CORS, tokens and rules of access.

use http::StatusCode;
use palisade_tests::client;

use super::{Issuers, Token, assert_placed, assert_same, explained, record_after};
use crate::edge::door::{Door, HOST, request_to};
use crate::kit::HTTP1;

const DOCUMENTS: &str = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: public, namespace: payments}
spec:
  selector: {app: edge}
  servers:
  - {port: {number: 443, name: https, protocol: HTTPS}, hosts: [api.bank.example, empty.bank.example], tls: {mode: SIMPLE, credentialName: api}}
  - {port: {number: 443, name: staff, protocol: HTTPS}, hosts: [staff.bank.example], tls: {mode: MUTUAL, credentialName: api}}
  - {port: {number: 80, name: http, protocol: HTTP}, hosts: [api.bank.example]}
  - {port: {number: 80, name: old, protocol: HTTP}, hosts: [old.bank.example], tls: {httpsRedirect: true}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: api, namespace: payments}
spec:
  hosts: [api.bank.example]
  gateways: [public]
  http:
  - name: transfers
    match: [{uri: {exact: /transfers}, method: {regex: POST|OPTIONS}}]
    corsPolicy: {allowOrigins: [{exact: 'https://shop.example'}], allowMethods: [POST]}
    route: [{destination: {host: ledger}}]
  - {name: down, match: [{uri: {prefix: /down}}], directResponse: {status: 503}}
  - {name: moved, match: [{uri: {exact: /moved}}], redirect: {uri: /accounts/1}}
  - {name: lost, match: [{uri: {exact: /lost}}], route: [{destination: {host: nowhere.example}}]}
  - {name: beta, match: [{uri: {prefix: /accounts/}, headers: {x-beta: {exact: 'yes'}}}], route: [{destination: {host: ledger}}]}
  - {name: plain, match: [{uri: {prefix: /accounts/}, scheme: {exact: http}}], route: [{destination: {host: ledger}}]}
  - {name: accounts, match: [{uri: {prefix: /accounts/}, queryParams: {v: {exact: '1'}}}, {uri: {exact: /accounts/1}}], rewrite: {uri: /balances}, route: [{destination: {host: ledger}}]}
---
apiVersion: palisade.mesh/v1
kind: RequestGuard
metadata: {name: forms, namespace: payments}
spec:
  selector: {matchLabels: {app: edge}}
  rules:
  - {name: transfers, match: [{routes: [transfers]}], contentTypes: [application/json], allowedMethods: [POST]}
  - {name: beta, match: [{routes: [beta]}], allowedMethods: [GET]}
---
apiVersion: palisade.mesh/v1
kind: JwtPolicy
metadata: {name: users, namespace: payments}
spec:
  selector: {matchLabels: {app: edge}}
  rules:
  - {name: transfers, match: [{routes: [transfers]}], access: token, scopes: [pay]}
  - {name: rest, access: public}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: users, namespace: payments}
spec:
  selector: {matchLabels: {app: edge}}
  action: ALLOW
  rules:
  - to: [{operation: {paths: ['/accounts/*', /moved, /down, /lost]}}]
  - from: [{source: {requestPrincipals: ['https://auth.bank.example/*']}}]
    to: [{operation: {paths: [/transfers]}}]
    when: [{key: 'request.headers[x-user]', values: [alice]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: closed, namespace: payments}
spec:
  selector: {matchLabels: {app: edge}}
  action: DENY
  rules:
  - when: [{key: 'request.headers[x-forwarded-for]', values: ['*']}]
  - to: [{operation: {paths: [/accounts/9]}}]
  - to: [{operation: {ports: ['80'], paths: [/accounts/8]}}]
  - to: [{operation: {paths: [/down/below]}}]
---
apiVersion: palisade.mesh/v1
kind: RateLimitPolicy
metadata: {name: calm, namespace: payments}
spec:
  selector: {matchLabels: {app: edge}}
  limits: [{name: all, key: [{address: {}}], limit: 1000, window: 60s}]
";

/// Port, host, method, path, headers, token, body, and the reason to come.
type Row = (
    u16,
    &'static str,
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
    Token,
    &'static str,
    &'static str,
);

const JSON: &[(&str, &str)] = &[("content-type", "application/json")];
const ASKS: (&str, &str) = ("access-control-request-method", "POST");

const ROWS: &[Row] = &[
    (443, HOST, "GET", "/accounts/1", &[], Token::None, "", "rule"),
    (443, HOST, "GET", "/accounts/7?v=1", &[], Token::None, "", "rule"),
    (443, HOST, "GET", "/accounts/7", &[], Token::None, "", "no_route"),
    (443, HOST, "GET", "/accounts/7", &[("x-beta", "yes")], Token::None, "", "rule"),
    (443, HOST, "PUT", "/accounts/7", &[("x-beta", "yes")], Token::None, "", "guard_method"),
    (443, HOST, "GET", "/x/../accounts/1", &[("x-forwarded-for", "1.1.1.1")], Token::None, "", "rule"),
    (443, HOST, "GET", "/accounts/9?v=1", &[], Token::None, "", "denied_by_rule"),
    (443, HOST, "GET", "/accounts%2f1", &[], Token::None, "", "path_ambiguous"),
    (443, HOST, "GET", "/", &[], Token::None, "", "no_route"),
    (443, "empty.bank.example", "GET", "/accounts/1", &[], Token::None, "", "no_route"),
    (443, "else.example", "GET", "/accounts/1", &[], Token::None, "", "no_route"),
    (443, "staff.bank.example", "GET", "/accounts/1", &[], Token::None, "", "misdirected_request"),
    (80, HOST, "GET", "/accounts/7", &[], Token::None, "", "rule"),
    (80, HOST, "GET", "/accounts/8", &[], Token::None, "", "denied_by_rule"),
    (80, "old.bank.example", "GET", "/accounts/9", &[], Token::None, "", "https_redirect"),
    (443, HOST, "GET", "/down", &[], Token::None, "", "rule"),
    (443, HOST, "GET", "/down/below", &[], Token::None, "", "denied_by_rule"),
    (443, HOST, "GET", "/moved", &[], Token::None, "", "rule"),
    (443, HOST, "GET", "/lost", &[], Token::None, "", "route_target_unknown"),
    (443, HOST, "POST", "/transfers", JSON, Token::Of(r#"{"scope": "pay"}"#), "{}", "rule"),
    (
        443,
        HOST,
        "POST",
        "/transfers",
        JSON,
        Token::Of(r#"{"scope": "pay", "sub": "bob"}"#),
        "{}",
        "no_allow_matched",
    ),
    (443, HOST, "POST", "/transfers", JSON, Token::Of(r#"{"scope": "look"}"#), "{}", "token_scope"),
    (443, HOST, "POST", "/transfers", JSON, Token::None, "{}", "token_required"),
    (443, HOST, "POST", "/transfers", JSON, Token::Forged, "{}", "token_signature"),
    (
        443,
        HOST,
        "POST",
        "/transfers",
        &[("content-type", "text/plain")],
        Token::Forged,
        "{}",
        "guard_content_type",
    ),
    (443, HOST, "GET", "/accounts/1", &[], Token::Expired, "", "token_expired"),
    (
        443,
        HOST,
        "OPTIONS",
        "/transfers",
        &[("origin", "https://shop.example"), ASKS],
        Token::None,
        "",
        "cors_preflight",
    ),
    (
        443,
        HOST,
        "OPTIONS",
        "/transfers",
        &[("origin", "https://evil.example"), ASKS],
        Token::None,
        "",
        "guard_method",
    ),
];

/// What is said of the object or rule that refuses, by reason.
const NAMED: &[(&str, &str, &str, &str)] = &[
    ("guard_method", "rule", "RequestGuard", "forms"),
    ("guard_content_type", "rule", "RequestGuard", "forms"),
    ("token_required", "rule", "JwtPolicy", "users"),
    ("token_scope", "rule", "JwtPolicy", "users"),
    ("denied_by_rule", "rule", "AuthorizationPolicy", "closed"),
    ("misdirected_request", "object", "Gateway", "public"),
];

#[tokio::test]
async fn an_edge_and_explain_give_the_same_decision_for_the_same_reason_by_the_same_rule_on_the_same_route() {
    let issuers = Issuers::new();
    let door = Door::with(&format!("{DOCUMENTS}---{}", issuers.believed_by("edge")), |edge| edge).await;
    for row in ROWS {
        let (port, host, method, path, headers, token, body, reason) = *row;
        let text = format!("{row:?}");
        let mut request = request_to(host, method, path, body);
        let port_text = port.to_string();
        let mut words: Vec<String> = [
            "--plaintext",
            "--to",
            "payments/edge",
            "--port",
            &port_text,
            "--host",
            host,
            "--method",
            method,
        ]
        .map(str::to_owned)
        .into();
        words.extend([
            "--path".to_owned(),
            path.to_owned(),
            "--body-bytes".to_owned(),
            body.len().to_string(),
        ]);
        if port == 443 {
            words.extend(["--sni".to_owned(), HOST.to_owned()]);
        }
        for (name, value) in headers {
            request.headers_mut().append(*name, value.parse().unwrap());
            words.extend(["--header".to_owned(), format!("{name}: {value}")]);
        }
        words.extend(issuers.add(token, &mut request));
        let before = door.edge.records().len();
        door.app().clear();
        let answer = match port {
            443 => client::send_on(door.connect(HTTP1).await, request).await.unwrap(),
            _ => door.send_plain(request).await,
        };
        let record = record_after(&door.edge, before).await;
        let told = explained(&door.mesh.world, &words).await;
        assert_eq!(record["reason"], reason, "{text}: {record:#}");
        assert_same(&told, &record, &text);
        assert_placed(&told, &text);
        let answered_here = !matches!(answer.status, StatusCode::OK) || reason == "cors_preflight";
        assert_eq!(door.app().received().is_empty(), answered_here, "{text}: {record:#}");
        if let Some((_, place, kind, name)) = NAMED.iter().find(|(of, ..)| *of == reason) {
            assert_eq!(
                (&told[place]["kind"], &told[place]["policy"]),
                (&(*kind).into(), &(*name).into()),
                "{text}"
            );
        }
        if reason == "no_route" {
            let expected = if host == HOST { "VirtualService" } else { "Gateway" };
            assert_eq!(told["object"]["kind"], expected, "{text}: {told:#}");
        }
    }
}
