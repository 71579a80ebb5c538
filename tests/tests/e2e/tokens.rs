//! Tokens of end users at a sidecar: what reaches the service, and what does not.

use http::{HeaderName, HeaderValue, StatusCode};
use palisade_tests::client::Answer;
use palisade_tests::jwks::{Issuer, in_seconds};
use palisade_tests::until;
use palisade_tests::wait::DEADLINE;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::kit::{ALLOW_MESH, Mesh, request, upgrade};

const ISSUER: &str = "https://auth.example";

fn policies(issuer: &Issuer, more: &str) -> String {
    format!(
        "{ALLOW_MESH}---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: customers, namespace: payments}}
spec:
  jwtRules:
  - issuer: {ISSUER}
    jwks: '{}'
    audiences: [api, other]
    outputClaimToHeaders: [{{header: x-jwt-subject, claim: sub}}, {{header: x-jwt-role, claim: realm.role}}]
    outputPayloadToHeader: x-jwt-payload
{more}",
        issuer.jwks()
    )
}

fn claims() -> Value {
    json!({"iss": ISSUER, "sub": "alice", "aud": "api", "exp": in_seconds(600), "realm": {"role": "clerk"}})
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

async fn call(mesh: &Mesh, target: &str, headers: &[(&'static str, &str)]) -> Answer {
    let mut request = request("GET", target, "");
    for (name, value) in headers {
        let value = HeaderValue::from_str(value).unwrap();
        request.headers_mut().append(HeaderName::from_static(name), value);
    }
    mesh.call("payments/web", request).await
}

async fn bearer(mesh: &Mesh, token: &str) -> Answer {
    call(mesh, "/entries", &[("authorization", &format!("Bearer {token}"))]).await
}

#[tokio::test]
async fn a_good_token_is_taken_out_and_its_claims_reach_the_service_in_headers() {
    let issuer = Issuer::new("k1");
    let mesh = Mesh::start(&policies(&issuer, "")).await;
    let token = issuer.token(&claims());
    for _ in 0..3 {
        let forged =
            [("x-jwt-subject", "mallory"), ("x_jwt_subject", "mallory"), ("x-jwt-payload", "forged")];
        let own = [("authorization", format!("bearer {token}"))];
        let headers: Vec<_> =
            forged.into_iter().chain(own.iter().map(|(name, value)| (*name, &**value))).collect();
        assert_eq!(call(&mesh, "/entries", &headers).await.status, StatusCode::OK);
        let received = mesh.app.last().headers;
        assert_eq!(received["x-jwt-subject"], "alice");
        assert_eq!(received["x-jwt-role"], "clerk");
        assert_eq!(received["x-jwt-payload"].to_str().unwrap(), token.split('.').nth(1).unwrap());
        for absent in ["authorization", "x_jwt_subject"] {
            assert!(!received.contains_key(absent), "{absent}: {received:?}");
        }
    }
    let principal = json!(format!("{ISSUER}/alice"));
    mesh.sidecar.records_with(3, &[("request_principal", principal)]).await;
    let target = format!("/entries?page=2&access_token={token}&x=1");
    assert_eq!(call(&mesh, &target, &[]).await.status, StatusCode::OK);
    assert_eq!(mesh.app.last().target, "/entries?page=2&x=1");
    assert!(!format!("{:?}", mesh.sidecar.records()).contains(&token));
}

#[tokio::test]
async fn a_request_without_a_token_passes_and_says_nothing_about_any_user() {
    let mesh = Mesh::start(&policies(&Issuer::new("k1"), "")).await;
    let forged = [("x-jwt-subject", "alice"), ("x_jwt_role", "admin"), ("authorization", "Basic YTpi")];
    assert_eq!(call(&mesh, "/entries", &forged).await.status, StatusCode::OK);
    let received = mesh.app.last().headers;
    assert_eq!(received["authorization"], "Basic YTpi");
    assert!(!received.contains_key("x-jwt-subject") && !received.contains_key("x_jwt_role"), "{received:?}");
}

#[tokio::test]
async fn a_preflight_is_anonymous_whatever_token_it_carries_and_hands_none_on() {
    let issuer = Issuer::new("k1");
    let mesh = Mesh::start(&policies(&issuer, "    forwardOriginalToken: true\n")).await;
    let old = format!("Bearer {}", issuer.token(&with("exp", json!(in_seconds(-3600)))));
    let ask = async |method: &str, headers: &[(&'static str, &str)]| {
        mesh.app.clear();
        let mut request = request(method, "/entries", "");
        for (name, value) in headers {
            request.headers_mut().append(*name, value.parse().unwrap());
        }
        mesh.call("payments/web", request).await.status
    };
    let (token, origin, wanted) = (
        ("authorization", &*old),
        ("origin", "https://app.example"),
        ("access-control-request-method", "POST"),
    );
    let forged = ("x-jwt-subject", "alice");
    assert_eq!(ask("OPTIONS", &[token, origin, wanted, forged]).await, StatusCode::OK);
    let received = mesh.app.last().headers;
    assert_eq!(received["access-control-request-method"], "POST");
    assert!(
        !received.contains_key("authorization") && !received.contains_key("x-jwt-subject"),
        "{received:?}"
    );
    for (method, headers) in
        [("OPTIONS", &[token, origin][..]), ("OPTIONS", &[token, wanted]), ("GET", &[token, origin, wanted])]
    {
        assert_eq!(ask(method, headers).await, StatusCode::UNAUTHORIZED, "{method} {headers:?}");
        mesh.app.assert_untouched();
    }
}

#[tokio::test]
async fn no_bad_token_reaches_the_service_and_the_caller_learns_no_more_than_rfc_6750_says() {
    let (issuer, stranger) = (Issuer::new("k1"), Issuer::new("k1"));
    let mesh = Mesh::start(&policies(&issuer, "")).await;
    let good = issuer.token(&claims());
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let psychic = format!("{signed}.{}", "A".repeat(86));
    let none = |name: &str| {
        let token = issuer.token_with(&json!({"alg": name}), &claims());
        format!("{}.", token.rsplit_once('.').unwrap().0)
    };
    let embedded = |member: &str| {
        stranger.token_with(&json!({"alg": "ES256", "kid": "k1", member: "https://evil.example"}), &claims())
    };
    let rows = [
        (stranger.token(&claims()), "token_signature"),
        (psychic, "token_signature"),
        (format!("{signed}."), "token_signature"),
        (format!("{signed}.{signature}="), "token_base64"),
        (format!("{good}.a.b"), "token_encrypted"),
        (none("none"), "token_algorithm"),
        (none("nOnE"), "token_algorithm"),
        (issuer.token_with(&json!({"alg": "HS256", "kid": "k1"}), &claims()), "token_algorithm_not_allowed"),
        (issuer.token_with(&json!({"alg": "RS256", "kid": "k1"}), &claims()), "token_key_mismatch"),
        (issuer.token_with(&json!({"alg": "ES256", "kid": "../k1"}), &claims()), "token_key_unknown"),
        (
            issuer.token_with(&json!({"alg": "ES256", "kid": "k1", "crit": ["x"]}), &claims()),
            "token_critical",
        ),
        (embedded("jwk"), "token_embedded_key"),
        (embedded("jku"), "token_embedded_key"),
        (issuer.token(&with("exp", json!(in_seconds(-120)))), "token_expired"),
        (issuer.token(&with("exp", json!(null))), "token_claim_type"),
        (issuer.token(&with("exp", json!("9999999999"))), "token_claim_type"),
        (issuer.token(&with("nbf", json!(in_seconds(120)))), "token_not_yet_valid"),
        (issuer.token(&with("iat", json!(in_seconds(120)))), "token_issued_in_future"),
        (issuer.token(&with("iss", json!("https://evil.example"))), "token_issuer_unknown"),
        (issuer.token(&with("pad", json!("x".repeat(9000)))), "token_too_large"),
        ("a.b.c".to_owned(), "token_base64"),
        ("not-a-token".to_owned(), "token_not_compact"),
        (format!("{good},{good}"), "token_location"),
        (format!(" {good}"), "token_location"),
    ];
    for (token, reason) in &rows {
        let answer = bearer(&mesh, token).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{reason}");
        let told = answer.header("www-authenticate").unwrap();
        let error = if *reason == "token_location" { "invalid_request" } else { "invalid_token" };
        assert_eq!(told, format!(r#"Bearer realm="api", error="{error}""#), "{reason}");
        assert!(!answer.text().contains("token_"), "{}", answer.text());
        let id = json!(answer.header("x-palisade-decision-id").unwrap());
        let record = mesh.sidecar.records_with(1, &[("decision_id", id)]).await.remove(0);
        assert_eq!((&record["reason"], &record["decision"]), (&json!(reason), &json!("unauthenticated")));
        assert_eq!(record["request_principal"], json!(null));
    }
    for (target, headers) in [
        (format!("/?access_token={good}"), vec![("authorization", format!("Bearer {good}"))]),
        (format!("/?access_token={good}&access_token={good}"), vec![]),
        (format!("/?access_token={good}&access%5Ftoken={good}"), vec![]),
        (
            "/".to_owned(),
            vec![("authorization", format!("Bearer {good}")), ("authorization", "Basic YTpi".to_owned())],
        ),
    ] {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, &**value)).collect();
        assert_eq!(call(&mesh, &target, &headers).await.status, StatusCode::UNAUTHORIZED, "{target}");
    }
    for audience in [json!("api-admin"), json!("ap"), json!(["x"]), json!([])] {
        let answer = bearer(&mesh, &issuer.token(&with("aud", audience))).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN);
    }
    mesh.app.assert_untouched();
    assert_eq!(
        bearer(&mesh, &issuer.token(&with("aud", json!(["x", "other"])))).await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn a_key_that_policy_no_longer_has_ends_its_tokens_at_once() {
    let (old, new) = (Issuer::new("old"), Issuer::new("new"));
    let mesh = Mesh::start(&policies(&old, "    forwardOriginalToken: true\n")).await;
    let (old_token, new_token) = (old.token(&claims()), new.token(&claims()));
    assert_eq!(bearer(&mesh, &old_token).await.status, StatusCode::OK);
    assert_eq!(mesh.app.last().headers["authorization"], format!("Bearer {old_token}"));
    assert_eq!(bearer(&mesh, &new_token).await.status, StatusCode::UNAUTHORIZED);
    mesh.world.policy("policies.yaml", &policies(&new, ""));
    until("the new key to be in force", || async {
        let status = bearer(&mesh, &new_token).await.status;
        if status == StatusCode::OK { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
    assert_eq!(bearer(&mesh, &old_token).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn keys_at_an_address_inside_are_not_fetched_and_no_token_passes_without_keys() {
    let issuer = Issuer::new("k1");
    let inside = palisade_tests::Upstream::start("keys").await;
    // 127.0.0.1, in a spelling that only whoever connects finds out about.
    let uri = format!("jwksUri: 'https://2130706433:{}/keys'", inside.address().port());
    let inline = format!("jwks: '{}'", issuer.jwks());
    let mesh = Mesh::start(&policies(&issuer, "").replace(&inline, &uri)).await;
    assert_eq!(bearer(&mesh, &issuer.token(&claims())).await.status, StatusCode::UNAUTHORIZED);
    mesh.sidecar.records_with(1, &[("reason", json!("token_no_keys"))]).await;
    mesh.app.assert_untouched();
    inside.assert_untouched();
}

#[tokio::test]
async fn policies_decide_by_who_the_user_is_and_what_the_token_says() {
    let issuer = Issuer::new("k1");
    let more = format!(
        "---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: users-only, namespace: payments}}
spec:
  action: DENY
  rules:
  - from: [{{source: {{notRequestPrincipals: ['{ISSUER}/*']}}}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: clerks-write, namespace: payments}}
spec:
  action: DENY
  rules:
  - to: [{{operation: {{methods: [POST]}}}}]
    when: [{{key: 'request.auth.claims[scope]', notValues: ['entries:write']}}]
"
    );
    let mesh = Mesh::start(&policies(&issuer, &more)).await;
    let before = mesh.app.received().len();
    let without = call(&mesh, "/entries", &[]).await;
    assert_eq!(without.status, StatusCode::FORBIDDEN, "{}", without.text());
    let post = |scope: &str| {
        let mut request = request("POST", "/entries", "");
        let token = issuer.token(&with("scope", json!(scope)));
        let value = HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
        request.headers_mut().insert("authorization", value);
        mesh.call("payments/web", request)
    };
    assert_eq!(post("entries:read").await.status, StatusCode::FORBIDDEN);
    assert_eq!(post("entries:writer").await.status, StatusCode::FORBIDDEN);
    assert_eq!(mesh.app.received().len(), before);
    assert_eq!(post("entries:read entries:write").await.status, StatusCode::OK);
    assert_eq!(bearer(&mesh, &issuer.token(&claims())).await.status, StatusCode::OK);
    assert_eq!(mesh.app.received().len(), before + 2);
}

#[tokio::test]
async fn an_upgraded_connection_ends_with_the_token_that_opened_it() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let issuer = Issuer::new("k1");
    let mesh = Mesh::start(&policies(&issuer, "")).await;
    let caller = mesh.caller().await;
    // Long enough for the upgrade on a slow machine; what is awaited afterwards is the end, not a time.
    let token = issuer.token(&with("exp", json!(in_seconds(4))));
    let bearer = format!("authorization: Bearer {token}\r\n");
    let (mut socket, answer) = upgrade(&caller, &bearer).await;
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    socket.write_all(b"before").await.unwrap();
    let mut echoed = [0; 6];
    timeout(DEADLINE, socket.read_exact(&mut echoed)).await.unwrap().unwrap();
    assert_eq!(&echoed, b"before");
    let mut rest = Vec::new();
    let _ended_or_reset =
        timeout(DEADLINE, socket.read_to_end(&mut rest)).await.expect("it outlived its token");
    assert!(rest.is_empty());
    let reason = json!("closed_at_token_expiry");
    mesh.sidecar.records_with(1, &[("response_code_details", reason)]).await;
}
