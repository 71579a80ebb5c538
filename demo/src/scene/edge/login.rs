use anyhow::Result;
use http::Method;
use serde_json::Value;

use super::{Report, balance, login_request, send, token};
use crate::client;
use crate::mesh::{EDGE, HOST, Mesh, identity_of};
use crate::service::Service;

/// Plaintext is sent away, nobody gets in without a token, and a login gives one.
pub(in crate::scene) async fn play(mesh: &mut Mesh) -> Result<Report> {
    let mut report = Report::default();
    let plaintext = mesh.edge.addresses.edge_plaintext()?.into();
    let request = client::request(Method::GET, "/accounts/alice/balance", HOST, "")?;
    let answer = client::Connection::open(&plaintext).await?.request(request).await?;
    let location = answer.header("location");
    report.step(
        format!("GET http://{HOST}/accounts/alice/balance in plaintext"),
        format!("{} to {location}", answer.status.as_u16()),
        "",
    );
    report.expect("plaintext", 301, answer.status.as_u16());
    report.expect("sent to TLS", format!("https://{HOST}/accounts/alice/balance"), location);

    let accounts = mesh.member(Service::Accounts);
    let before = accounts.received().await?;
    let (answer, record) = balance(mesh, "alice", None).await?;
    super::step(
        &mut report,
        format!("GET https://{HOST}/accounts/alice/balance without a token"),
        &answer,
        &record,
    );
    report.expect("status without a token", 401, answer.status.as_u16());
    report.expect("a token is asked for", r#"Bearer realm="api""#, answer.header("www-authenticate"));
    report.expect("reason", "token_required", record.field("reason"));
    report.expect("requests that accounts received", before, accounts.received().await?);

    let auth = &mesh.member(Service::Auth).records;
    let mark = auth.mark()?;
    let (answer, record) = send(mesh, login_request("alice", "wonderland")?).await?;
    let behind = auth.find(mark, |r| r.field("path") == "/login").await?;
    let body: Value = serde_json::from_str(&answer.body).unwrap_or_default();
    let said = |name: &str| body.get(name).map(Value::to_string).unwrap_or_default();
    let got = format!(
        "{} with a token of {} characters, for {} s, scope {}",
        answer.status.as_u16(),
        token(&answer)?.len(),
        said("expires_in"),
        said("scope")
    );
    let seen = behind.field("source_principal");
    report.step(
        format!("POST https://{HOST}/login as alice, over {}", record.field("tls_version")),
        got,
        format!("the edge: {}; auth's sidecar: {}, called by {seen}", record.why(), behind.why()),
    );
    report.expect("status of the login", 200, answer.status.as_u16());
    report.expect("caller, as auth's sidecar saw it", identity_of(EDGE)?, seen);
    Ok(report)
}
