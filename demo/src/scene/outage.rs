use anyhow::{Context as _, Result};
use serde_json::Value;
use tokio::time::Instant;

use super::rotation::first_or_none;
use super::{ENTRIES, Report, live_policy};
use crate::load::Load;
use crate::mesh::{Mesh, until};
use crate::service::Service;
use crate::yaml;

/// While nobody is there to ask.
const REQUESTS: u64 = 200;

/// Killed, not stopped; then back on the same port with the same data.
pub(super) async fn play(mesh: &mut Mesh) -> Result<Report> {
    let mut report = Report::default();
    let proxy = mesh.member(Service::Payments).outbound_proxy()?;
    let load = Load::start(&proxy, ENTRIES, "ledger.fintech:8080");
    let line = mesh.control_plane.kill().await?;
    let (enough, back) = (load.sent() + REQUESTS, Instant::now() + mesh.control_plane.away());
    let gone_on = || load.sent() >= enough && Instant::now() >= back;
    until("the load to go on", async || Ok(gone_on().then_some(()))).await?;
    let (answer, record) = live_policy::ask(mesh).await?;
    report.step(
        format!("{line} (the control plane); notifications asks the ledger"),
        answer.line(),
        record.why(),
    );
    report.expect("policies still in force", 200, answer.status.as_u16());

    mesh.control_plane.restart().await?;
    let back = reconnected(mesh).await?;
    let counted = load.stop().await?;
    report.step(
        format!("payments sends GET {ENTRIES} all the while"),
        format!("{} requests, {} failed", counted.sent, counted.failures.len()),
        "",
    );
    report.seen(format!(
        "the control plane is started again: {back} of {} proxies are back by themselves",
        mesh.proxies
    ));
    report.expect("failures", "none", first_or_none(&counted.failures));

    withdraw(mesh, &mut report).await?;
    Ok(report)
}

/// The policy of the second scene is deleted again; the proxies must hear of it.
async fn withdraw(mesh: &Mesh, report: &mut Report) -> Result<()> {
    let args = ["delete", "AuthorizationPolicy", "ledger-notifications", "-n", "fintech", "--wait", "5s"];
    let said = mesh.operator().run(&args).await?;
    let last = said.lines().last().unwrap_or_default().to_owned();
    report.step(format!("palisade {}", args.join(" ")), last, "");
    let (answer, record) = live_policy::ask(mesh).await?;
    report.step(format!("notifications sends GET {ENTRIES}"), answer.line(), record.why());
    report.expect("status after the policy is gone", 403, answer.status.as_u16());
    // For whoever plays on: the file that was applied can be applied again.
    let path = mesh.path("extra").join(yaml::NOTIFICATIONS_READ_LEDGER.0);
    report.expect("document still there to apply", true, path.exists());
    Ok(())
}

async fn reconnected(mesh: &Mesh) -> Result<usize> {
    until("the proxies to come back", async || {
        // It does not listen yet, perhaps.
        let Ok(listed) = mesh.operator().json(&["proxies"]).await else { return Ok(None) };
        let proxies = listed.get("proxies").and_then(Value::as_array).context("no list of proxies")?;
        let back =
            proxies.iter().filter(|p| p["connected"] == Value::Bool(true) && p["ready"] == Value::Bool(true));
        let back = back.count();
        Ok((back == mesh.proxies).then_some(back))
    })
    .await
}
