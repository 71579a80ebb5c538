use anyhow::Result;

use super::{ENTRIES, Report};
use crate::load::Load;
use crate::mesh::{Mesh, until};
use crate::service::Service;

/// Enough to have old and new certificates in use side by side, again and again.
const ROTATIONS: usize = 3;
/// Between two rotations.
const REQUESTS: u64 = 50;

/// Both ends get new certificates, several times, while requests run.
pub(super) async fn play(mesh: &mut Mesh) -> Result<Report> {
    let mut report = Report::default();
    let (payments, ledger) = (mesh.member(Service::Payments), mesh.member(Service::Ledger));
    let before = (payments.serial().await?, ledger.serial().await?);
    let load = Load::start(&payments.outbound_proxy()?, ENTRIES, "ledger.fintech:8080");
    for _ in 0..ROTATIONS {
        more_requests(&load).await?;
        tokio::try_join!(payments.renew(), ledger.renew())?;
    }
    more_requests(&load).await?;
    let after = (payments.serial().await?, ledger.serial().await?);
    let counted = load.stop().await?;

    report.step(
        format!("payments sends GET {ENTRIES} on four connections; both sidecars renew {ROTATIONS} times meanwhile (SIGHUP does at once what they do by themselves at half of a certificate's life)"),
        format!("{} requests, {} failed", counted.sent, counted.failures.len()),
        "",
    );
    report.seen(format!("serial of payments' certificate: {} -> {}", before.0, after.0));
    report.seen(format!("serial of the ledger's certificate: {} -> {}", before.1, after.1));
    report.expect("failures", "none", first_or_none(&counted.failures));
    report.expect("new certificates at both ends", true, before.0 != after.0 && before.1 != after.1);
    Ok(report)
}

async fn more_requests(load: &Load) -> Result<()> {
    let enough = load.sent() + REQUESTS;
    until("the load to go on", async || Ok((load.sent() >= enough).then_some(()))).await
}

pub(super) fn first_or_none(failures: &[String]) -> String {
    failures.first().cloned().unwrap_or_else(|| "none".to_owned())
}
