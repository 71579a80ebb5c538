use anyhow::Result;

use super::{Report, balance, login};
use crate::mesh::Mesh;
use crate::scene::tokens;
use crate::service::Service;

/// Tokens that are not good enough, in three ways; none of them reaches accounts.
pub(in crate::scene) async fn play(mesh: &mut Mesh) -> Result<Report> {
    let mut report = Report::default();
    let accounts = mesh.member(Service::Accounts);
    let good = login(mesh, "alice", "wonderland").await?;
    let expired = tokens::login(mesh, "/demo/expired-token", None).await?;
    let elsewhere = tokens::login(mesh, "/login", Some("https://reports.example")).await?;
    let before = accounts.received().await?;
    for (what, token, status, reason) in [
        (
            "alice's claims under alg none, without a signature",
            tokens::unsigned(&good),
            401,
            "token_algorithm",
        ),
        ("a true token that has expired", expired, 401, "token_expired"),
        ("a true token for https://reports.example", elsewhere, 403, "token_audience"),
    ] {
        let (answer, record) = balance(mesh, "alice", Some(&token)).await?;
        super::step(&mut report, format!("GET /accounts/alice/balance with {what}"), &answer, &record);
        report.expect("status", status, answer.status.as_u16());
        report.expect("reason", reason, record.field("reason"));
        // RFC 6750: whoever could do better with another token is told so.
        report.expect(
            "asked for another token",
            status == 401,
            answer.header("www-authenticate").starts_with("Bearer"),
        );
    }
    report.expect("requests that accounts received", before, accounts.received().await?);
    let (answer, _) = balance(mesh, "alice", Some(&good)).await?;
    report.expect("status with the good token", 200, answer.status.as_u16());
    Ok(report)
}
