use anyhow::Result;

use super::Report;
use crate::intruder::{self, Attempt};
use crate::mesh::{Mesh, identity};
use crate::record::Mark;
use crate::service::Service;

/// Three who reach the ledger's sidecar and are not of the mesh.
pub(super) async fn play(mesh: &mut Mesh) -> Result<Report> {
    let mut report = Report::default();
    let ledger = mesh.member(Service::Ledger);
    let (door, id) = (ledger.inbound()?, identity(Service::Ledger)?);
    let (roots, address) = (mesh.roots().await?, door.address);

    let mark = ledger.records.mark()?;
    let attempt = intruder::plaintext(&door).await?;
    let sent = format!("GET http://{address}/entries in plaintext");
    refused(mesh, &mut report, mark, sent, &attempt, "plaintext_refused").await?;

    let mark = ledger.records.mark()?;
    let attempt = intruder::tls(&door, None, &roots, id.clone()).await?;
    let sent = format!("TLS to {address} without a certificate");
    refused(mesh, &mut report, mark, sent, &attempt, "handshake_failed").await?;

    let name = identity(Service::Payments)?;
    let forged = intruder::forged(&name)?;
    let mark = ledger.records.mark()?;
    let attempt = intruder::tls(&door, Some(&forged), &roots, id).await?;
    let sent = format!("TLS to {address} with a certificate for {name}, signed by another CA");
    refused(mesh, &mut report, mark, sent, &attempt, "handshake_failed").await?;
    Ok(report)
}

async fn refused(
    mesh: &Mesh,
    report: &mut Report,
    mark: Mark,
    sent: String,
    attempt: &Attempt,
    details: &str,
) -> Result<()> {
    let from = attempt.from.to_string();
    let records = &mesh.member(Service::Ledger).records;
    let record = records.find(mark, |r| r.field("source_address") == from).await?;
    report.step(sent, attempt.line(), record.connection());
    report.expect("answered", false, attempt.outcome.is_ok());
    report.expect("decision", "unauthenticated", record.field("decision"));
    report.expect("details", details, record.field("response_code_details"));
    Ok(())
}
