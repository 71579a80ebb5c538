use anyhow::{Context as _, Result};
use http::Method;
use serde_json::Value;

use super::{ENTRIES, Report};
use crate::client::Answer;
use crate::mesh::{Mesh, identity};
use crate::record::Record;
use crate::service::Service;
use crate::yaml;

/// Refused; a policy is applied; allowed, without a restart of anything.
pub(super) async fn play(mesh: &mut Mesh) -> Result<Report> {
    let mut report = Report::default();
    let sent = format!("notifications sends GET {ENTRIES} through its sidecar");

    let (answer, record) = ask(mesh).await?;
    report.step(&sent, answer.line(), record.why());
    report.expect("status", 403, answer.status.as_u16());
    report.expect("caller", identity(Service::Notifications)?, record.field("source_principal"));
    report.expect("decision", "denied", record.field("decision"));
    report.expect("decision id in the answer", record.field("decision_id"), answer.decision_id());
    report.expect("policy named to the caller", false, answer.body.contains("ledger-"));

    let path = mesh.path("extra").join(yaml::NOTIFICATIONS_READ_LEDGER.0);
    let applied = mesh.operator().apply(&path).await?;
    let pushes = Pushes::read(&applied)?;
    report.step(format!("palisade apply {}", yaml::NOTIFICATIONS_READ_LEDGER.0), pushes.line(), "");
    report.expect("proxies that took it", mesh.proxies, pushes.acked);

    let (answer, record) = ask(mesh).await?;
    report.step(sent, answer.line(), record.why());
    report.expect("status", 200, answer.status.as_u16());
    report.expect("policy", "fintech/ledger-notifications", record.field("policy"));
    Ok(report)
}

/// notifications reads the ledger's entries.
pub(super) async fn ask(mesh: &Mesh) -> Result<(Answer, Record)> {
    let ledger = &mesh.member(Service::Ledger).records;
    let mark = ledger.mark()?;
    let answer = mesh.member(Service::Notifications).call(Method::GET, ENTRIES, "").await?;
    let caller = identity(Service::Notifications)?;
    let record = ledger.find(mark, |r| r.field("source_principal") == caller.as_str()).await?;
    Ok((answer, record))
}

/// What `apply --wait` said of the proxies.
#[derive(Clone, Debug)]
pub(super) struct Pushes {
    pub(super) acked: usize,
    slowest_us: u64,
    version: u64,
}

impl Pushes {
    pub(super) fn read(applied: &Value) -> Result<Self> {
        let pushes = applied
            .get("pushes")
            .and_then(Value::as_array)
            .context("apply did not say who took the change")?;
        let acked: Vec<&Value> = pushes.iter().filter(|push| push["outcome"] == "acked").collect();
        let slowest_us = acked.iter().filter_map(|push| push["latency_us"].as_u64()).max().unwrap_or(0);
        Ok(Self { acked: acked.len(), slowest_us, version: applied["version"].as_u64().unwrap_or(0) })
    }

    pub(super) fn line(&self) -> String {
        let (millis, tenths) = (self.slowest_us / 1000, self.slowest_us % 1000 / 100);
        format!(
            "version {} in force on {} proxies, the last after {millis}.{tenths} ms",
            self.version, self.acked
        )
    }
}
