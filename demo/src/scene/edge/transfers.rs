use anyhow::Result;

use super::{Report, entries, login, transfer};
use crate::mesh::Mesh;
use crate::service::Service;

/// As the RateLimitPolicy has it.
const LIMIT: usize = 5;

/// Five transfers a minute for each user, whatever token they come with.
pub(in crate::scene) async fn play(mesh: &mut Mesh) -> Result<Report> {
    let mut report = Report::default();
    let token = login(mesh, "bob", "builder").await?;
    let payments = mesh.member(Service::Payments);
    let before = (payments.received().await?, entries(mesh).await?);

    let mut passed = Vec::new();
    for _ in 0..LIMIT {
        let (answer, _) = transfer(mesh, "bob", "alice", &token).await?;
        passed.push(answer.status.as_u16());
    }
    report.step(format!("{LIMIT} times POST /transfers with bob's token"), format!("{passed:?}"), "");
    report.expect("answers within the limit", format!("{:?}", [201; LIMIT]), format!("{passed:?}"));

    let another = login(mesh, "bob", "builder").await?;
    for (what, token) in [("once more", &token), ("with a new token of bob", &another)] {
        let (answer, record) = transfer(mesh, "bob", "alice", token).await?;
        let wait = answer.header("retry-after");
        report.step(format!("POST /transfers, {what}"), answer.line(), format!("the edge: {}", record.why()));
        report.expect("status", 429, answer.status.as_u16());
        let wait: u64 = wait.parse().unwrap_or(0);
        report.expect("Retry-After is within the minute", true, (1..=60).contains(&wait));
    }
    let after = (payments.received().await?, entries(mesh).await?);
    report.seen(format!("the ledger got exactly {} of the {}", after.1 - before.1, LIMIT + 2));
    report.expect("requests that payments received", LIMIT, after.0 - before.0);
    report.expect("entries that were added", LIMIT, after.1 - before.1);

    let token = login(mesh, "alice", "wonderland").await?;
    let (answer, _) = transfer(mesh, "alice", "bob", &token).await?;
    report.step("POST /transfers with alice's token: her quota is her own", answer.line(), "");
    report.expect("status for another user", 201, answer.status.as_u16());
    Ok(report)
}
