use anyhow::Result;
use http::Method;

use super::{ENTRIES, Report};
use crate::mesh::Mesh;
use crate::service::Service;

/// The right caller with the wrong method.
pub(super) async fn play(mesh: &mut Mesh) -> Result<Report> {
    let mut report = Report::default();
    let ledger = &mesh.member(Service::Ledger).records;
    let payments = mesh.member(Service::Payments);
    let before = payments.call(Method::GET, ENTRIES, "").await?;

    let mark = ledger.mark()?;
    let answer = payments.call(Method::DELETE, ENTRIES, "").await?;
    let record = ledger.find(mark, |r| r.field("method") == "DELETE").await?;
    report.step(format!("payments sends DELETE {ENTRIES}"), answer.line(), record.why());
    report.expect("status", 403, answer.status.as_u16());
    report.expect("decision", "denied", record.field("decision"));

    let after = payments.call(Method::GET, ENTRIES, "").await?;
    report.step(format!("payments sends GET {ENTRIES}"), after.line(), "");
    report.expect("entries after it", before.body, after.body);
    Ok(report)
}
