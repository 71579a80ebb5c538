//! JwtPolicy at the edge: routes that need a token, and those that are public.

use http::StatusCode;
use palisade_tests::jwks::{Issuer, in_seconds};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::door::{Door, request, with};
use crate::kit::HTTP1;

const ISSUER: &str = "https://auth.bank.example";

const ROUTES: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: api, namespace: payments}
spec:
  hosts: ['*']
  gateways: [public]
  http:
  - {name: login, match: [{uri: {exact: /login}}], route: [{destination: {host: ledger}}]}
  - {name: status, match: [{uri: {exact: /status}}], directResponse: {status: 200, body: {string: fine}}}
  - name: pay
    match: [{uri: {prefix: /transfers}}]
    corsPolicy: {allowOrigins: [{exact: 'https://app.bank.example'}], allowMethods: [POST], allowHeaders: [authorization]}
    route: [{destination: {host: ledger}}]
  - {name: all, route: [{destination: {host: ledger}}]}
";

fn policies(issuer: &Issuer, rest: &str) -> String {
    format!(
        "{ROUTES}---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: users, namespace: payments}}
spec: {{selector: {{matchLabels: {{app: edge}}}}, jwtRules: [{{issuer: '{ISSUER}', jwks: '{}'}}]}}
---
apiVersion: palisade.mesh/v1
kind: JwtPolicy
metadata: {{name: api, namespace: payments}}
spec:
  selector: {{matchLabels: {{app: edge}}}}
  rules:
  - {{name: login, match: [{{routes: [login]}}], access: public}}
  - {{name: pay, match: [{{routes: [payments/api/pay], methods: [POST]}}], access: token, scopes: [pay]}}
  - {{name: rest, access: {rest}}}
",
        issuer.jwks()
    )
}

fn bearer(issuer: &Issuer, scope: &str) -> String {
    let claims: Value = json!({"iss": ISSUER, "sub": "alice", "exp": in_seconds(600), "scope": scope});
    format!("Bearer {}", issuer.token(&claims))
}

#[tokio::test]
async fn routes_say_by_name_who_needs_a_token_and_nothing_else_reaches_a_service_or_an_answer() {
    let issuer = Issuer::new("k1");
    let door = Door::open(&policies(&issuer, "token")).await;
    let (reader, payer) = (bearer(&issuer, "read"), bearer(&issuer, "read pay"));
    let none = Some(r#"Bearer realm="api""#);
    let scope = Some(r#"Bearer realm="api", error="insufficient_scope", scope="pay""#);
    let rows = [
        ("GET", "/entries", "", 401, none),
        // What the edge answers itself is behind the same door.
        ("GET", "/status", "", 401, none),
        ("POST", "/transfers", "", 401, none),
        ("POST", "/transfers", &reader, 403, scope),
        ("OPTIONS", "/transfers", "", 401, none),
    ];
    for (method, path, token, status, challenge) in rows {
        let sent = request(method, path, "");
        let sent = if token.is_empty() { sent } else { with(sent, &[("authorization", token)]) };
        let answer = door.send(sent).await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("www-authenticate")),
            (status, challenge),
            "{path}"
        );
    }
    door.app().assert_untouched();
    let fields = [("reason", json!("token_scope")), ("policy", json!("payments/api")), ("rule", json!(1))];
    door.edge.records_with(1, &fields).await;

    for (method, path, token) in
        [("POST", "/transfers", &payer), ("GET", "/transfers", &reader), ("GET", "/x", &reader)]
    {
        let answer = door.send(with(request(method, path, ""), &[("authorization", token)])).await;
        assert_eq!(answer.status, StatusCode::OK, "{method} {path}");
        assert_eq!(door.app().last().target, path);
    }
    assert_eq!(door.send(request("POST", "/login", "{}")).await.status, StatusCode::OK);
    assert_eq!(door.app().last().target, "/login");
    let preflight = [("origin", "https://app.bank.example"), ("access-control-request-method", "POST")];
    let answer = door.send(with(request("OPTIONS", "/transfers", ""), &preflight)).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.bank.example"));
}

#[tokio::test]
async fn a_tunnel_through_the_edge_ends_when_its_route_asks_for_a_token() {
    let issuer = Issuer::new("k1");
    let documents = |rest: &str| {
        format!("{}---{}---{}", super::door::GATEWAY, super::door::EVERYBODY, policies(&issuer, rest))
    };
    let door = Door::open(&policies(&issuer, "public")).await;
    let mut stream = door.connect(HTTP1).await;
    let asked = b"GET /upgrade HTTP/1.1\r\nhost: api.bank.example\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    stream.write_all(asked).await.unwrap();
    let mut head = vec![0; 4096];
    let read = stream.read(&mut head).await.unwrap();
    assert!(head[..read].starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head[..read]));
    door.mesh.world.policy("edge.yaml", &documents("token"));
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(palisade_tests::DEADLINE, stream.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "the tunnel stays open");
    door.edge.records_with(1, &[("response_code_details", json!("closed_by_policy_change"))]).await;
}

#[tokio::test]
async fn a_download_through_the_edge_breaks_off_when_its_route_asks_for_a_token() {
    let issuer = Issuer::new("k1");
    let documents = |rest: &str| {
        format!("{}---{}---{}", super::door::GATEWAY, super::door::EVERYBODY, policies(&issuer, rest))
    };
    let door = Door::open(&policies(&issuer, "public")).await;
    let mut stream = door.connect(HTTP1).await;
    stream.write_all(b"GET /drip/100000 HTTP/1.1\r\nhost: api.bank.example\r\n\r\n").await.unwrap();
    let mut head = vec![0; 4096];
    let read = stream.read(&mut head).await.unwrap();
    assert!(head[..read].starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&head[..read]));
    door.mesh.world.policy("edge.yaml", &documents("token"));
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(palisade_tests::DEADLINE, stream.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "the download goes on");
    assert!(!rest.ends_with(b"0\r\n\r\n"), "it looks whole");
    let fields =
        [("response_code_details", json!("closed_by_policy_change")), ("path", json!("/drip/100000"))];
    door.edge.records_with(1, &fields).await;
}
