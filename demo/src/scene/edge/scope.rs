use anyhow::Result;

use super::{Report, balance, entries, login, transfer};
use crate::mesh::Mesh;
use crate::service::Service;

/// rita's token says that she may read.
pub(in crate::scene) async fn play(mesh: &mut Mesh) -> Result<Report> {
    let mut report = Report::default();
    let token = login(mesh, "rita", "library").await?;
    let (answer, record) = balance(mesh, "rita", Some(&token)).await?;
    super::step(
        &mut report,
        "GET /accounts/rita/balance with rita's token, scope accounts:read",
        &answer,
        &record,
    );
    report.expect("status of reading", 200, answer.status.as_u16());

    let payments = mesh.member(Service::Payments);
    let before = (payments.received().await?, entries(mesh).await?);
    let (answer, record) = transfer(mesh, "rita", "bob", &token).await?;
    super::step(&mut report, "POST /transfers with the same token", &answer, &record);
    report.expect("status of writing", 403, answer.status.as_u16());
    let wanted = r#"Bearer realm="api", error="insufficient_scope", scope="payments:write""#;
    report.expect("scope that is asked for", wanted, answer.header("www-authenticate"));
    report.expect("reason", "token_scope", record.field("reason"));
    let after = (payments.received().await?, entries(mesh).await?);
    report.expect("what payments received, and entries", format!("{before:?}"), format!("{after:?}"));
    Ok(report)
}
