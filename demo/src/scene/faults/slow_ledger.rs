use std::time::Duration;

use anyhow::Result;
use http::Method;
use tokio::time::Instant;

use super::{Report, call, inject, stop_all};
use crate::mesh::Mesh;

/// payments, and nobody else, finds the ledger slow; the record says why, and one command ends it.
pub(in crate::scene) async fn play(mesh: &mut Mesh) -> Result<Report> {
    let mut report = Report::default();
    let id = inject(mesh, &mut report, "slow-ledger", &["--delay", "700ms"]).await?;

    let begun = Instant::now();
    let (answer, record) = call(mesh, Method::GET).await?;
    let took = begun.elapsed();
    report.step(
        "payments reads the ledger's entries",
        format!("{} after {} ms", answer.status.as_u16(), took.as_millis()),
        format!(
            "payments' sidecar: fault {}, flags {}",
            record.field("fault"),
            record.field("response_flags")
        ),
    );
    report.expect("status", 200, answer.status.as_u16());
    report.expect("as slow as was asked for", true, took >= Duration::from_millis(700));
    report.expect("the record names the experiment", id, record.field("fault"));

    stop_all(mesh, &mut report).await?;
    let begun = Instant::now();
    let (answer, record) = call(mesh, Method::GET).await?;
    let took = begun.elapsed();
    report.step(
        "payments reads the ledger's entries",
        format!("{} after {} ms", answer.status.as_u16(), took.as_millis()),
        "",
    );
    report.expect("status after the kill switch", 200, answer.status.as_u16());
    report.expect("no fault in the record", "", record.field("fault"));
    Ok(report)
}
