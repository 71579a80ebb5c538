use anyhow::Result;
use serde_json::Value;

use super::{Report, balance, login};
use crate::mesh::{EDGE, Mesh, identity_of};
use crate::service::Service;

/// A user reads the own balance; the service behind knows who asks, and answers for that account only.
pub(in crate::scene) async fn play(mesh: &mut Mesh) -> Result<Report> {
    let mut report = Report::default();
    let token = login(mesh, "alice", "wonderland").await?;
    let accounts = mesh.member(Service::Accounts);

    let mark = accounts.records.mark()?;
    let (answer, record) = balance(mesh, "alice", Some(&token)).await?;
    let behind = accounts.records.find(mark, |r| r.field("path") == "/accounts/alice/balance").await?;
    let headers = accounts.last_headers().await?;
    let user = headers.get("x-user-id").and_then(Value::as_str).unwrap_or("none");
    report.step(
        "GET /accounts/alice/balance with alice's token",
        answer.line(),
        format!("the edge: {}; accounts' sidecar: {}", record.why(), behind.why()),
    );
    report.seen(format!(
        "accounts was called by {} and told x-user-id: {user}",
        behind.field("source_principal")
    ));
    report.expect("status", 200, answer.status.as_u16());
    report.expect(
        "user, as the edge verified it",
        "https://auth.shop.example/alice",
        record.field("request_principal"),
    );
    report.expect("user, as accounts was told", "alice", user);
    report.expect("token kept from accounts", false, headers.contains_key("authorization"));
    report.expect(
        "caller, as accounts' sidecar saw it",
        identity_of(EDGE)?,
        behind.field("source_principal"),
    );

    let (answer, _) = balance(mesh, "bob", Some(&token)).await?;
    report.step(
        "GET /accounts/bob/balance with alice's token",
        answer.line(),
        "accounts itself: it knows who asks",
    );
    report.expect("status of another's account", 403, answer.status.as_u16());
    Ok(report)
}
