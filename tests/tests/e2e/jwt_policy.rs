//! JwtPolicy at a sidecar: which requests reach the service, and what the others are told.

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::{HeaderValue, Request, StatusCode};
use palisade_tests::client::Answer;
use palisade_tests::jwks::{Issuer, hs256, in_seconds};
use palisade_tests::until;
use palisade_tests::wait::DEADLINE;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;

use crate::fleet::{ALLOW_WEB, Fleet};
use crate::kit::{ALLOW_MESH, Mesh, request, request_h2, upgrade, url};

pub(crate) const ISSUER: &str = "https://auth.example";
const SECRET: &[u8] = b"7c1f0e5b9d3a48629f1c6e0d2b7a5f34";

const RULES: &str = "
  rules:
  - {name: login, match: [{paths: [/login]}], access: public}
  - {name: transfers, match: [{methods: [POST], paths: [/transfers]}], access: token,
     scopes: [payments.write, mfa], audiences: ['https://payments.example']}
  - {name: rest, access: token}";

/// A RequestAuthentication of the issuer with `keys`, and a JwtPolicy with `spec`.
pub(crate) fn policies(keys: &str, spec: &str) -> String {
    format!(
        "{ALLOW_MESH}---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: users, namespace: payments}}
spec: {{selector: {{matchLabels: {{app: ledger}}}}, jwtRules: [{{issuer: '{ISSUER}', {keys}}}]}}
---
apiVersion: palisade.mesh/v1
kind: JwtPolicy
metadata: {{name: api, namespace: payments}}
spec:
  selector: {{matchLabels: {{app: ledger}}}}{spec}
"
    )
}

fn inline(issuer: &Issuer) -> String {
    format!("jwks: '{}'", issuer.jwks())
}

pub(crate) fn claims(more: &Value) -> Value {
    let mut claims = json!({"iss": ISSUER, "sub": "alice", "exp": in_seconds(600), "iat": in_seconds(0)});
    for (name, value) in more.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

pub(crate) async fn ask(mesh: &Mesh, method: &str, path: &str, token: &str) -> Answer {
    let mut request = request(method, path, "");
    authorize(&mut request, token);
    mesh.call("payments/web", request).await
}

fn authorize<B>(request: &mut Request<B>, token: &str) {
    if !token.is_empty() {
        let value = HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
        request.headers_mut().insert("authorization", value);
    }
}

fn challenge(answer: &Answer) -> &str {
    answer.headers.get("www-authenticate").map_or("", |value| value.to_str().unwrap())
}

/// The last record tells this reason, decision and rule.
async fn recorded(mesh: &Mesh, reason: &str, decision: &str, rule: u64) {
    let fields = [
        ("reason", json!(reason)),
        ("decision", json!(decision)),
        ("policy", json!("payments/api")),
        ("rule", json!(rule)),
    ];
    mesh.sidecar.records_with(1, &fields).await;
}

#[tokio::test]
async fn a_request_without_what_its_rule_asks_for_never_reaches_the_service() {
    let issuer = Issuer::new("k1");
    let mesh = Mesh::start(&policies(&inline(&issuer), RULES)).await;
    let token = |more: Value| issuer.token(&claims(&more));
    let (plain, aud) = (token(json!({})), "https://payments.example");
    let reader = token(json!({"aud": aud, "scope": "payments.read mfa"}));
    let elsewhere = token(json!({"aud": "https://reports.example", "scope": "payments.write mfa"}));
    let forged = Issuer::new("k1").token(&claims(&json!({})));
    let (none, invalid) = (r#"Bearer realm="api""#, r#"Bearer realm="api", error="invalid_token""#);
    let scope = r#"Bearer realm="api", error="insufficient_scope", scope="payments.write mfa""#;
    let rows = [
        ("GET", "/entries", "", 401, none),
        ("GET", "/login/", "", 401, none),
        ("OPTIONS", "/transfers", "", 401, none),
        ("POST", "/transfers", "", 401, none),
        ("POST", "/transfers", &plain, 403, ""),
        ("POST", "/transfers", &elsewhere, 403, ""),
        ("POST", "/transfers", &reader, 403, scope),
        ("GET", "/entries", &forged, 401, invalid),
        // Public means that no token is needed, not that a bad one is taken.
        ("GET", "/login", &forged, 401, invalid),
    ];
    for (method, path, token, status, header) in rows {
        let answer = ask(&mesh, method, path, token).await;
        assert_eq!((answer.status.as_u16(), challenge(&answer)), (status, header), "{method} {path}");
    }
    mesh.app.assert_untouched();
    recorded(&mesh, "token_required", "unauthenticated", 2).await;
    recorded(&mesh, "token_required", "unauthenticated", 1).await;
    recorded(&mesh, "token_scope", "denied", 1).await;
    recorded(&mesh, "token_rule_audience", "denied", 1).await;

    let writer = token(json!({"aud": ["x", aud], "scope": "mfa payments.write"}));
    for (method, path, token) in [
        ("GET", "/login", ""),
        ("GET", "/login", &plain),
        ("GET", "/entries", &plain),
        ("POST", "/transfers", &writer),
    ] {
        mesh.app.clear();
        assert_eq!(ask(&mesh, method, path, token).await.status, StatusCode::OK, "{method} {path}");
        let received = mesh.app.last();
        assert_eq!((received.method.as_str(), &*received.target), (method, path));
        assert!(!received.headers.contains_key("authorization"));
    }
}

#[tokio::test]
async fn grpc_callers_are_told_in_their_own_codes() {
    let issuer = Issuer::new("k1");
    let mesh = Mesh::serving("grpc", &policies(&inline(&issuer), RULES)).await;
    let poor = issuer.token(&claims(&json!({"aud": "https://payments.example"})));
    for (token, code) in [("", "16"), (&*poor, "7")] {
        let mut request = request_h2("POST", "/transfers", "");
        request.headers_mut().append("content-type", "application/grpc".parse().unwrap());
        authorize(&mut request, token);
        let answer = mesh.call_h2("payments/web", request).await;
        assert_eq!((answer.status, &answer.headers["grpc-status"]), (StatusCode::OK, &code.parse().unwrap()));
    }
    mesh.app.assert_untouched();
}

#[tokio::test]
async fn what_is_refused_for_its_scopes_takes_nothing_from_the_users_quota() {
    let issuer = Issuer::new("k1");
    let limit = "---
apiVersion: palisade.mesh/v1
kind: RateLimitPolicy
metadata: {name: users, namespace: payments}
spec: {limits: [{name: user, key: [{claim: sub}], limit: 1, window: 1h}]}
";
    let mesh = Mesh::start(&(policies(&inline(&issuer), RULES) + limit)).await;
    let poor = issuer.token(&claims(&json!({"aud": "https://payments.example"})));
    for _ in 0..3 {
        assert_eq!(ask(&mesh, "POST", "/transfers", &poor).await.status, StatusCode::FORBIDDEN);
    }
    assert_eq!(ask(&mesh, "GET", "/entries", &poor).await.status, StatusCode::OK);
    assert_eq!(ask(&mesh, "GET", "/entries", &poor).await.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(mesh.app.received().len(), 1);
}

#[tokio::test]
async fn a_token_that_the_issuers_policy_finds_too_old_too_long_or_too_bare_is_refused() {
    let issuer = Issuer::new("k1");
    let spec = format!(
        "
  issuers: [{{issuer: '{ISSUER}', algorithms: [ES256], clockSkew: 5s, maxTokenAge: 5m, requiredClaims: [sub, jti],
              maxTokenBytes: 600}}]"
    );
    let mesh = Mesh::start(&policies(&inline(&issuer), &spec)).await;
    let rows = [
        (json!({"jti": "1", "iat": in_seconds(-320)}), "token_too_old"),
        (json!({"jti": "1", "iat": null}), "token_claim_type"),
        (json!({}), "token_claim_missing"),
        (json!({"jti": null}), "token_claim_missing"),
        // Within the usual minute of skew, and beyond these five seconds.
        (json!({"jti": "1", "exp": in_seconds(-20)}), "token_expired"),
        (json!({"jti": "1", "more": "x".repeat(400)}), "token_too_large"),
    ];
    for (more, reason) in rows {
        let answer = ask(&mesh, "GET", "/entries", &issuer.token(&claims(&more))).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{reason}");
        mesh.sidecar.records_with(1, &[("reason", json!(reason))]).await;
    }
    mesh.app.assert_untouched();
    let good = issuer.token(&claims(&json!({"jti": "1"})));
    assert_eq!(ask(&mesh, "GET", "/entries", &good).await.status, StatusCode::OK);
    // Signed by the right key with an algorithm that the policy has taken away since.
    mesh.world.policy("policies.yaml", &policies(&inline(&issuer), &spec.replace("ES256", "RS256")));
    until("the policy that takes RS256 alone", || async {
        let answer = ask(&mesh, "GET", "/entries", &good).await;
        if answer.status == StatusCode::UNAUTHORIZED { Ok(()) } else { Err(answer.status) }
    })
    .await;
    mesh.sidecar.records_with(1, &[("reason", json!("token_algorithm_not_allowed"))]).await;
}

#[tokio::test]
async fn a_shared_secret_verifies_hs256_and_a_rotated_one_takes_its_place() {
    let fleet = Fleet::start(ALLOW_WEB).await;
    let path = fleet.world.folder().join("jwt.secret");
    std::fs::write(&path, [SECRET, b"\n"].concat()).unwrap();
    let spec = format!(
        "
  issuers: [{{issuer: '{ISSUER}', secretFile: '{}', keys: {{refreshInterval: 1s}}}}]
  rules: [{{name: rest, access: token}}]",
        path.display()
    );
    let documents = policies("audiences: [api]", &spec).replace(ALLOW_MESH, "");
    fleet.world.apply(&documents).await;
    let get = async |token: &str| {
        let mut request = palisade_tests::client::request("GET", &url("/entries"), "");
        authorize(&mut request, token);
        palisade_tests::client::send(fleet.web.http_proxy(), request).await.status
    };
    let mut more = claims(&json!({"aud": "api"}));
    let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    fleet.app.clear();
    more["sub"] = json!("mallory");
    let others = [&b"another secret of 32 bytes......"[..], b"", &SECRET[..31], rsa.public_key().as_ref()];
    for secret in others {
        assert_eq!(get(&hs256(secret, &more)).await, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(get(&Issuer::new("k1").token(&more)).await, StatusCode::UNAUTHORIZED);
    assert_eq!(get("").await, StatusCode::UNAUTHORIZED);
    fleet.app.assert_untouched();
    more["sub"] = json!("alice");
    let good = hs256(SECRET, &more);
    assert_eq!(get(&good).await, StatusCode::OK);
    assert!(!fleet.app.last().headers.contains_key("authorization"));

    // A file that is no secret any more changes nothing; a new secret ends the old one, tokens known by heart too.
    std::fs::write(&path, "short").unwrap();
    until("the short secret to be seen", || async {
        if fleet.ledger.process.log().contains("secret_short") { Ok(()) } else { Err("not yet") }
    })
    .await;
    assert_eq!(get(&good).await, StatusCode::OK);
    let next = b"a9b8c7d6e5f4031221304f5e6d7c8b9a";
    std::fs::write(&path, next).unwrap();
    until("the new secret", || async {
        let status = get(&hs256(next, &more)).await;
        if status == StatusCode::OK { Ok(()) } else { Err(status) }
    })
    .await;
    assert_eq!(get(&good).await, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_public_key_never_passes_for_a_secret_in_any_of_its_spellings() {
    let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let pkcs1 = rsa.public_key().as_ref();
    let spki: PublicKeyX509Der<'_> = rsa.public_key().as_der().unwrap();
    let spki = spki.as_ref();
    // RSAPublicKey: the modulus is the 256 bytes behind the fixed head 30 82 01 0a 02 82 01 01 00.
    let modulus = &pkcs1[9..265];
    let encoded = URL_SAFE_NO_PAD.encode(modulus);
    let jwk = json!({"kty": "RSA", "kid": "r1", "alg": "RS256", "n": encoded, "e": "AQAB"});
    let set = json!({ "keys": [jwk] }).to_string();
    let pem = |label: &str, der: &[u8]| {
        let text = STANDARD.encode(der);
        let lines: Vec<_> =
            text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----", lines.join("\n"))
    };
    let (public, pkcs1_pem) = (pem("PUBLIC KEY", spki), pem("RSA PUBLIC KEY", pkcs1));
    let mesh = Mesh::start(&policies(
        &format!("jwks: '{set}'"),
        "
  rules: [{name: rest, access: token}]",
    ))
    .await;
    let secrets: [&[u8]; 9] = [
        public.as_bytes(),
        &[public.as_bytes(), b"\n"].concat(),
        pkcs1_pem.as_bytes(),
        spki,
        pkcs1,
        modulus,
        encoded.as_bytes(),
        set.as_bytes(),
        b"",
    ];
    for secret in secrets {
        let answer = ask(&mesh, "GET", "/entries", &hs256(secret, &claims(&json!({})))).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    }
    mesh.app.assert_untouched();
    let reason = json!("token_algorithm_not_allowed");
    mesh.sidecar.records_with(secrets.len(), &[("reason", reason)]).await;
}

#[tokio::test]
async fn a_policy_that_nothing_could_pass_or_that_mixes_keys_is_not_applied() {
    let fleet = Fleet::open().await;
    let issuer = Issuer::new("k1");
    let secret = format!("\n  issuers: [{{issuer: '{ISSUER}', secretFile: /run/secrets/jwt}}]");
    let all = policies(&inline(&issuer), RULES).replace(ALLOW_MESH, "");
    let alone = all.split("---\n").last().unwrap().to_owned();
    let rows = [
        (alone, "PAL1906"),
        (policies(&inline(&issuer), &secret).replace(ALLOW_MESH, ""), "PAL1801"),
        (policies("jwksUri: 'http://10.0.0.1/keys'", RULES).replace(ALLOW_MESH, ""), "PAL1801"),
    ];
    for (text, code) in rows {
        let path = fleet.world.write("bad.yaml", &text);
        let done = fleet.world.operator(&["apply", &path]).await;
        crate::fleet::assert_refused(&done, 2, &[code, "bad.yaml"]);
    }
    assert_eq!(fleet.get("/entries").await.status, StatusCode::OK);
}

#[tokio::test]
async fn an_open_tunnel_ends_when_a_new_policy_asks_for_a_token_that_it_did_not_bring() {
    let issuer = Issuer::new("k1");
    let open = policies(&inline(&issuer), "\n  rules: [{name: all, access: public}]");
    let mesh = Mesh::start(&open).await;
    let caller = mesh.caller().await;
    let (mut socket, answer) = upgrade(&caller, "").await;
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    mesh.world.policy("policies.yaml", &open.replace("public", "token"));
    let mut rest = Vec::new();
    let _ended_or_reset =
        timeout(DEADLINE, socket.read_to_end(&mut rest)).await.expect("it outlived its policy");
    let reason = json!("closed_by_policy_change");
    mesh.sidecar.records_with(1, &[("response_code_details", reason)]).await;
}

#[tokio::test]
async fn claims_that_are_lists_with_spaces_are_compared_word_by_word() {
    let issuer = Issuer::new("k1");
    let allow = "---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: admins, namespace: payments}
spec: {action: DENY, rules: [{when: [{key: 'request.auth.claims[roles]', notValues: [admin]}]}]}
";
    let keys = format!("{}, spaceDelimitedClaims: [roles]", inline(&issuer));
    let mesh = Mesh::start(&(policies(&keys, RULES) + allow)).await;
    let with = |roles: &str| issuer.token(&claims(&json!({ "roles": roles })));
    assert_eq!(
        ask(&mesh, "GET", "/entries", &with("clerk administrator")).await.status,
        StatusCode::FORBIDDEN
    );
    mesh.app.assert_untouched();
    assert_eq!(ask(&mesh, "GET", "/entries", &with("clerk admin")).await.status, StatusCode::OK);
}
