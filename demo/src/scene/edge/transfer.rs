use anyhow::Result;

use super::{Report, entries, login, transfer};
use crate::mesh::{EDGE, Mesh, identity, identity_of};
use crate::record::Record;
use crate::service::Service;

/// Three hops, each with an identity of its own and a record; one request id finds them all.
pub(in crate::scene) async fn play(mesh: &mut Mesh) -> Result<Report> {
    let mut report = Report::default();
    let token = login(mesh, "alice", "wonderland").await?;
    let before = entries(mesh).await?;
    let (payments, ledger) = (&mesh.member(Service::Payments).records, &mesh.member(Service::Ledger).records);
    let (at_payments, at_ledger) = (payments.mark()?, ledger.mark()?);
    let (answer, first) = transfer(mesh, "alice", "bob", &token).await?;
    report.step("POST /transfers with alice's token: 5 euros to bob", answer.line(), "");
    report.expect("status", 201, answer.status.as_u16());
    report.expect("entries that were added", 1, entries(mesh).await? - before);
    if !report.passed() {
        // There are no records to wait for.
        return Ok(report);
    }

    let id = first.field("request_id");
    let same = |r: &Record| r.field("request_id") == id;
    let second = payments.find(at_payments, |r| same(r) && r.field("direction") == "inbound").await?;
    let third = ledger.find(at_ledger, |r| same(r) && r.field("direction") == "inbound").await?;
    report.seen(format!("request id {id} is in the records of all three:"));
    let user = first.field("request_principal");
    report.seen(hop("the edge", &user, &first));
    report.seen(hop("payments' sidecar", &second.field("source_principal"), &second));
    report.seen(hop("the ledger's sidecar", &third.field("source_principal"), &third));
    report.expect("user at the edge", "https://auth.shop.example/alice", user);
    report.expect("caller of payments", identity_of(EDGE)?, second.field("source_principal"));
    report.expect("caller of the ledger", identity(Service::Payments)?, third.field("source_principal"));
    for (what, policy, record) in [
        ("policy at the edge", "fintech/edge-users", &first),
        ("policy at payments", "fintech/payments-edge", &second),
        ("policy at the ledger", "fintech/ledger-payments", &third),
    ] {
        report.expect(what, policy, record.field("policy"));
    }
    Ok(report)
}

fn hop(at: &str, caller: &str, record: &Record) -> String {
    format!("{at}: {} {} of {caller}: {}", record.field("method"), record.field("path"), record.why())
}
