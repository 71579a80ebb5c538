use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST};
use http::{Method, Request};
use http_body_util::Full;
use serde_json::{Value, json};

use super::{ENTRIES, Report, live_policy::Pushes};
use crate::client::{Answer, Connection};
use crate::mesh::Mesh;
use crate::service::Service;

/// The document that this scene applies.
pub(crate) const APPLIED: &str = "ledger-users";
const FORGED: &str = "mallory";

/// auth signs tokens, the ledger's sidecar verifies them with auth's public key, and the ledger is told who the user is.
pub(super) async fn play(mesh: &mut Mesh) -> Result<Report> {
    let mut report = Report::default();
    require(mesh, &mut report).await?;
    let token = login(mesh, "/login", None).await?;

    let (answer, _) = ask(mesh, &token).await?;
    let headers = mesh.member(Service::Ledger).last_headers().await?;
    let user = headers.get("x-user-id").and_then(Value::as_str).unwrap_or("none");
    report.step(
        format!("payments sends GET {ENTRIES} with a token of alice and a forged x-user-id: {FORGED}"),
        format!("{}; the ledger received x-user-id: {user}", answer.status.as_u16()),
        "",
    );
    report.expect("status", 200, answer.status.as_u16());
    report.expect("user, as the ledger was told", "alice", user);
    report.expect("token kept from the ledger", false, headers.contains_key("authorization"));

    let expired = login(mesh, "/demo/expired-token", None).await?;
    let elsewhere = login(mesh, "/login", Some("https://reports.example")).await?;
    for (what, token, status) in [
        ("alice's claims under alg none, without a signature", unsigned(&token), 401),
        ("a true token that has expired", expired, 401),
        ("a true token for https://reports.example", elsewhere, 403),
    ] {
        let (answer, why) = ask(mesh, &token).await?;
        report.step(format!("payments sends GET {ENTRIES} with {what}"), answer.line(), why);
        report.expect("status", status, answer.status.as_u16());
    }
    Ok(report)
}

/// Applies that the ledger takes tokens of auth. Its keys are of this run, so the document is made here.
async fn require(mesh: &Mesh, report: &mut Report) -> Result<()> {
    let keys = mesh.member(Service::Auth).ask_app(Method::GET, "/.well-known/jwks.json", "").await?;
    let document = json!({
        "apiVersion": "security.istio.io/v1",
        "kind": "RequestAuthentication",
        "metadata": {
            "name": APPLIED,
            "namespace": "fintech",
            "annotations": {
                "palisade.mesh/lint-ignore": "PAL3002: callers are known by certificates, users are told on top",
            },
        },
        "spec": {
            "selector": { "matchLabels": { "app": "ledger" } },
            "jwtRules": [{
                "issuer": "https://auth.shop.example",
                "audiences": ["https://shop.example"],
                "jwks": keys.body,
                "outputClaimToHeaders": [{ "header": "x-user-id", "claim": "sub" }],
            }],
        },
    });
    let path = mesh.path("extra").join("ledger-users.yaml");
    // JSON is YAML.
    std::fs::write(&path, document.to_string())?;
    let applied = mesh.operator().apply(&path).await?;
    let pushes = Pushes::read(&applied)?;
    report.step(
        "palisade apply ledger-users.yaml: a RequestAuthentication with auth's key",
        pushes.line(),
        "",
    );
    report.expect("somebody took it", true, pushes.acked > 0);
    Ok(())
}

/// A token of alice, from auth itself: no policy lets the edge ask for some of these.
pub(super) async fn login(mesh: &Mesh, path: &str, audience: Option<&str>) -> Result<String> {
    let body = json!({ "user": "alice", "password": "wonderland", "audience": audience });
    let answer = mesh.member(Service::Auth).ask_app(Method::POST, path, &body.to_string()).await?;
    let body: Value = serde_json::from_str(&answer.body)?;
    let token = body.get("access_token").and_then(Value::as_str);
    Ok(token.with_context(|| format!("the login gave no token: {}", answer.line()))?.to_owned())
}

/// payments asks the ledger with a token; also why the ledger's sidecar let it pass or not.
async fn ask(mesh: &Mesh, token: &str) -> Result<(Answer, String)> {
    let records = &mesh.member(Service::Ledger).records;
    let mark = records.mark()?;
    let request = Request::get(ENTRIES)
        .header(HOST, "ledger.fintech:8080")
        .header(AUTHORIZATION, format!("Bearer {token}"))
        .header("x-user-id", FORGED)
        .body(Full::new(Bytes::new()))?;
    let proxy = mesh.member(Service::Payments).outbound_proxy()?;
    let answer = Connection::open(&proxy).await?.request(request).await?;
    let record = records.find(mark, |r| r.field("path") == "/entries").await?;
    Ok((answer, format!("the ledger's sidecar: {}", record.field("response_code_details"))))
}

/// The same claims in a token that says it needs no signature.
pub(super) fn unsigned(token: &str) -> String {
    let head = BASE64_URL_SAFE_NO_PAD.encode(json!({ "alg": "none", "typ": "JWT" }).to_string());
    let claims = token.split('.').nth(1).unwrap_or_default();
    format!("{head}.{claims}.")
}
