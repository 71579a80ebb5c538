//! Tokens, CORS, limits and upgrades of end users at the edge.

use http::StatusCode;
use palisade_tests::jwks::{Issuer, in_seconds};
use palisade_tests::{client, until};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::door::{Door, GATEWAY, HOST, TO_LEDGER, request, with};
use crate::kit::HTTP1;

const ISSUER: &str = "https://auth.bank.example";

fn claims(subject: &str) -> Value {
    json!({"iss": ISSUER, "sub": subject, "aud": "api", "exp": in_seconds(600), "scope": "pay read"})
}

/// Tokens of the issuer, required by policy, with claims in headers.
fn users(issuer: &Issuer) -> String {
    format!(
        "{GATEWAY}---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: users, namespace: payments}}
spec:
  selector: {{matchLabels: {{app: edge}}}}
  jwtRules:
  - issuer: {ISSUER}
    jwks: '{}'
    audiences: [api]
    outputClaimToHeaders: [{{header: x-user-id, claim: sub}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: edge, namespace: payments}}
spec:
  selector: {{matchLabels: {{app: edge}}}}
  action: ALLOW
  rules: [{{from: [{{source: {{requestPrincipals: ['*']}}}}]}}]
",
        issuer.jwks()
    )
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

#[tokio::test]
async fn a_users_token_opens_the_door_and_its_claims_are_the_only_identity_that_reaches_the_service() {
    let issuer = Issuer::new("k1");
    // The route would overwrite the claim's header: it may not.
    let routes =
        TO_LEDGER.replace("{name: all,", "{name: all, headers: {request: {set: {x-user-id: route}}},");
    let door = Door::with(&format!("{}---{routes}", users(&issuer)), |edge| edge).await;
    let token = bearer(&issuer.token(&claims("alice")));
    let forged = [("x-user-id", "mallory"), ("x_user_id", "mallory"), ("x-user-id", "root")];
    for anonymous in [with(request("GET", "/", ""), &forged), request("GET", "/", "")] {
        assert_eq!(door.send(anonymous).await.status, StatusCode::FORBIDDEN);
    }
    door.app().assert_untouched();
    let mut headers = forged.to_vec();
    headers.extend([("authorization", token.as_str()), ("connection", "x-user-id")]);
    assert_eq!(door.send(with(request("GET", "/", ""), &headers)).await.status, StatusCode::OK);
    let received = door.app().last().headers;
    assert_eq!(received.get_all("x-user-id").iter().collect::<Vec<_>>(), ["alice"]);
    assert!(!received.contains_key("x_user_id") && !received.contains_key("authorization"));
    let principal = json!(format!("{ISSUER}/alice"));
    door.edge.records_with(1, &[("request_principal", principal)]).await;
}

#[tokio::test]
async fn no_false_token_passes_the_edge() {
    let (issuer, stranger) = (Issuer::new("k1"), Issuer::new("k1"));
    let door = Door::with(&format!("{}---{TO_LEDGER}", users(&issuer)), |edge| edge).await;
    let good = claims("alice");
    let mut expired = good.clone();
    expired["exp"] = json!(in_seconds(-120));
    let mut elsewhere = good.clone();
    elsewhere["aud"] = json!("api-admin");
    let none = issuer.token_with(&json!({"alg": "none"}), &good);
    let none = format!("{}.", none.rsplit_once('.').unwrap().0);
    let rows = [
        (none, StatusCode::UNAUTHORIZED),
        (stranger.token(&good), StatusCode::UNAUTHORIZED),
        (issuer.token(&expired), StatusCode::UNAUTHORIZED),
        (issuer.token(&elsewhere), StatusCode::FORBIDDEN),
        (format!("{0}, {0}", issuer.token(&good)), StatusCode::UNAUTHORIZED),
    ];
    for (token, status) in rows {
        let answer = door.send(with(request("GET", "/", ""), &[("authorization", &bearer(&token))])).await;
        assert_eq!(answer.status, status, "{token}");
        assert_eq!(answer.header("www-authenticate").is_some(), status == StatusCode::UNAUTHORIZED);
        assert!(!answer.text().contains("alice") && !answer.text().contains(&token));
    }
    let twice = with(
        request("GET", &format!("/?access_token={}", issuer.token(&good)), ""),
        &[("authorization", &bearer(&issuer.token(&good)))],
    );
    assert_eq!(door.send(twice).await.status, StatusCode::UNAUTHORIZED);
    door.app().assert_untouched();
    assert!(!format!("{:?}", door.edge.records()).contains("access_token"));
}

/// In the query and in one header, needed nowhere: what is refused here is refused for its place.
fn elsewhere(issuer: &Issuer) -> String {
    let places = "fromHeaders: [{name: X-Token}]\n    fromParams: [access_token]\n    audiences:";
    let optional = users(issuer).replace("requestPrincipals: ['*']", "ipBlocks: [0.0.0.0/0]");
    optional.replace("audiences:", places)
}

#[tokio::test]
async fn a_token_under_another_spelling_of_its_place_is_refused_and_reaches_nobody() {
    let issuer = Issuer::new("k1");
    let door = Door::with(&format!("{}---{TO_LEDGER}", elsewhere(&issuer)), |edge| edge).await;
    let token = issuer.token(&claims("alice"));
    let query = format!("/?a=1;access_token={token}");
    let rows: [(&str, &[(&'static str, &str)]); 5] = [
        ("/", &[("x-token", &token), ("x_token", "forged")]),
        ("/", &[("x_token", &token)]),
        ("/", &[("x_token", "")]),
        (&query, &[]),
        (&query, &[("x-token", &token)]),
    ];
    for (target, headers) in rows {
        let answer = door.send(with(request("GET", target, ""), headers)).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{target} {headers:?}");
    }
    door.edge.records_with(5, &[("reason", json!("token_location"))]).await;
    door.app().assert_untouched();
    for (target, headers) in [
        (format!("/?a=1;b=2&access_token={token}"), [("x-tokens", "1")]),
        ("/?a=1;b=2".to_owned(), [("x-token", &*token)]),
    ] {
        assert_eq!(door.send(with(request("GET", &target, ""), &headers)).await.status, StatusCode::OK);
        let received = door.app().last();
        assert_eq!(
            (&*received.target, &received.headers["x-user-id"]),
            ("/?a=1;b=2", &"alice".parse().unwrap())
        );
        assert!(!received.headers.contains_key("x-token"));
    }
}

/// RFC 8725 section 3.11: the same keys sign more than access tokens.
#[tokio::test]
async fn an_object_that_says_it_is_no_access_token_opens_nothing() {
    let issuer = Issuer::new("k1");
    let door = Door::with(&format!("{}---{TO_LEDGER}", users(&issuer)), |edge| edge).await;
    let ask = async |kind: &str| {
        let token = issuer.token_with(&json!({"alg": "ES256", "kid": "k1", "typ": kind}), &claims("alice"));
        door.send(with(request("GET", "/", ""), &[("authorization", &bearer(&token))])).await.status
    };
    for kind in ["logout+jwt", "dpop+jwt", "application/secevent+jwt", "JWE"] {
        assert_eq!(ask(kind).await, StatusCode::UNAUTHORIZED, "{kind}");
    }
    door.edge.records_with(4, &[("reason", json!("token_type"))]).await;
    door.app().assert_untouched();
    for kind in ["JWT", "at+jwt"] {
        assert_eq!(ask(kind).await, StatusCode::OK, "{kind}");
    }
}

#[tokio::test]
async fn a_claim_with_blanks_around_it_is_nobody_to_the_service() {
    let issuer = Issuer::new("k1");
    let door = Door::with(&format!("{}---{TO_LEDGER}", users(&issuer)), |edge| edge).await;
    for subject in [" alice", "alice ", "\u{2003}alice", "alice\u{a0}"] {
        let token = bearer(&issuer.token(&claims(subject)));
        let forged = [("authorization", &*token), ("x-user-id", "alice")];
        assert_eq!(door.send(with(request("GET", "/", ""), &forged)).await.status, StatusCode::OK);
        let headers = door.app().last().headers;
        assert!(!headers.contains_key("x-user-id"), "{subject:?}: {headers:?}");
    }
}

#[tokio::test]
async fn an_address_is_limited_before_its_token_is_looked_at_and_a_user_only_when_it_is_true() {
    let (issuer, stranger) = (Issuer::new("k1"), Issuer::new("k1"));
    let limits = "
apiVersion: palisade.mesh/v1
kind: RateLimitPolicy
metadata: {name: api, namespace: payments}
spec:
  selector: {matchLabels: {app: edge}}
  limits:
  - {name: login, match: [{paths: [/login]}], key: [{address: {}}], limit: 3, window: 60s}
  - {name: pay, match: [{routes: [all], paths: [/transfers]}], key: [{claim: sub}], limit: 2, window: 60s}
";
    let door = Door::with(&format!("{}---{TO_LEDGER}---{limits}", users(&issuer)), |edge| edge).await;
    let ask = async |path: &str, issuer: &Issuer| {
        let token = bearer(&issuer.token(&claims("alice")));
        door.send(with(request("POST", path, "{}"), &[("authorization", &token)])).await
    };
    for _ in 0..3 {
        assert_eq!(ask("/login", &stranger).await.status, StatusCode::UNAUTHORIZED);
    }
    let answer = ask("/login", &stranger).await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(answer.header("retry-after").is_some());
    // A forger uses up nobody's quota.
    for _ in 0..5 {
        assert_eq!(ask("/transfers", &stranger).await.status, StatusCode::UNAUTHORIZED);
    }
    for left in ["\"pay\";r=1", "\"pay\";r=0"] {
        let answer = ask("/transfers", &issuer).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert!(answer.header("ratelimit").unwrap().starts_with(left), "{:?}", answer.headers);
    }
    assert_eq!(ask("/transfers", &issuer).await.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(door.app().received().len(), 2);
}

#[tokio::test]
async fn a_grpc_client_is_refused_in_its_own_words_and_may_ask_for_trailers() {
    let issuer = Issuer::new("k1");
    let door = Door::speaking("grpc", &format!("{}---{TO_LEDGER}", users(&issuer)), |edge| edge).await;
    let call = |token: &str| {
        let request = super::door::request_h2("POST", HOST, "/headers", "message");
        let token = bearer(token);
        with(request, &[("content-type", "application/grpc"), ("te", "trailers"), ("authorization", &token)])
    };
    let answer = door.send_h2(call("a.b.c")).await;
    assert_eq!((answer.status, answer.header("grpc-status")), (StatusCode::OK, Some("16")));
    door.app().assert_untouched();
    let answer = door.send_h2(call(&issuer.token(&claims("alice")))).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(door.app().last().headers["te"], "trailers");
}

#[tokio::test]
async fn preflights_are_answered_at_the_edge_and_refusals_can_be_read_by_allowed_pages_alone() {
    let issuer = Issuer::new("k1");
    let cors = "corsPolicy: {allowOrigins: [{exact: 'https://app.bank.example'}], allowMethods: [GET, POST], allowHeaders: [authorization], allowCredentials: true, maxAge: 1h}";
    let routes = TO_LEDGER.replace("{name: all,", &format!("{{name: all, {cors},"));
    let door = Door::with(&format!("{}---{routes}", users(&issuer)), |edge| edge).await;
    let preflight = |origin: &str| {
        let asked = [
            ("origin", origin),
            ("access-control-request-method", "POST"),
            ("authorization", "Bearer x.y.z"),
        ];
        with(request("OPTIONS", "/transfers", ""), &asked)
    };
    let answer = door.send(preflight("https://app.bank.example")).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.bank.example"));
    assert_eq!(answer.header("access-control-allow-methods"), Some("GET,POST"));
    assert_eq!(answer.header("access-control-max-age"), Some("3600"));
    let answer = door.send(preflight("https://evil.example")).await;
    assert_eq!(answer.header("access-control-allow-origin"), None);
    // Without the browser's question it is a request like others.
    let bare = with(request("OPTIONS", "/transfers", ""), &[("origin", "https://app.bank.example")]);
    let answer = door.send(bare).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.bank.example"));
    door.app().assert_untouched();

    let token = bearer(&issuer.token(&claims("alice")));
    for (origin, allowed) in [("https://app.bank.example", true), ("https://evil.example", false)] {
        let sent = with(request("GET", "/echo", ""), &[("origin", origin), ("authorization", &token)]);
        let answer = door.send(sent).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.header("access-control-allow-origin"), allowed.then_some(origin));
        assert_eq!(answer.header("vary"), Some("origin"));
    }
}

#[tokio::test]
async fn a_websocket_is_tunnelled_and_closed_when_policy_forbids_it() {
    let door = Door::open(TO_LEDGER).await;
    let mut stream = door.connect(HTTP1).await;
    let asked = b"GET /upgrade HTTP/1.1\r\nhost: api.bank.example\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    stream.write_all(asked).await.unwrap();
    let mut head = vec![0; 4096];
    let read = stream.read(&mut head).await.unwrap();
    assert!(head[..read].starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head[..read]));
    stream.write_all(b"ping").await.unwrap();
    let mut echo = [0; 4];
    stream.read_exact(&mut echo).await.unwrap();
    assert_eq!(&echo, b"ping");
    let closed =
        super::door::EVERYBODY.replace("rules: [{}]", "rules: [{to: [{operation: {paths: [/other]}}]}]");
    door.mesh.world.policy("edge.yaml", &format!("{GATEWAY}---{closed}---{TO_LEDGER}"));
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(palisade_tests::DEADLINE, stream.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "the tunnel stays open");
    door.edge.records_with(1, &[("response_code_details", json!("closed_by_policy_change"))]).await;
    until("the new policy for requests", async || {
        let status =
            client::send_on(door.connect(HTTP1).await, request("GET", "/", "")).await.unwrap().status;
        if status == StatusCode::FORBIDDEN { Ok(()) } else { Err(status) }
    })
    .await;
}

#[tokio::test]
async fn a_trailer_says_nothing_about_the_user() {
    let issuer = Issuer::new("k1");
    let door = Door::with(&format!("{}---{TO_LEDGER}", users(&issuer)), |edge| edge).await;
    let token = bearer(&issuer.token(&claims("alice")));
    let trailers = "x-user-id: mallory\r\nX_User-Id: mallory\r\nx-fine: 1\r\n";
    let text = format!(
        "POST /echo HTTP/1.1\r\nhost: {HOST}\r\nauthorization: {token}\r\ntransfer-encoding: chunked\r\n\
         trailer: x-user-id, x_user-id, x-fine\r\nconnection: close\r\n\r\n1\r\na\r\n0\r\n{trailers}\r\n"
    );
    let answer = door.raw(text.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    until("the body's end", async || if door.app().last().complete { Ok(()) } else { Err(()) }).await;
    let received = door.app().last();
    assert_eq!(received.headers["x-user-id"], "alice");
    let names: Vec<_> = received.trailers.unwrap_or_default().keys().map(ToString::to_string).collect();
    assert_eq!(names, ["x-fine"]);
}
