//! Scenes with faults that the operator injects on purpose, and ends.

pub(super) mod breaker;
pub(super) mod lost_answer;
pub(super) mod slow_ledger;

use anyhow::Result;
use http::Method;
use serde_json::json;

use super::{ENTRIES, Report};
use crate::client::Answer;
use crate::mesh::{Mesh, NAMESPACE};
use crate::record::Record;
use crate::service::Service;

/// What the scenes do to payments' calls of the ledger ends by itself after this, whatever becomes of the demo.
const FOR: &str = "1m";

/// Injects a fault into payments' calls of the ledger, and gives the experiment's id.
async fn inject(mesh: &Mesh, report: &mut Report, name: &str, fault: &[&str]) -> Result<String> {
    let whom = ["fault", "inject", "--from", "payments", "--to", "ledger", "-n", NAMESPACE];
    let args = [&whom, fault, &["--for", FOR, "--name", name, "--wait", "5s"]].concat();
    let said = mesh.operator().run(&args).await?;
    report.step(format!("palisade {}", args.join(" ")), said.lines().next().unwrap_or_default(), "");
    Ok(format!("{NAMESPACE}/{name}"))
}

/// The kill switch.
async fn stop_all(mesh: &Mesh, report: &mut Report) -> Result<()> {
    let args = ["fault", "stop", "--all", "--wait", "5s"];
    let said = mesh.operator().run(&args).await?;
    report.step(format!("palisade {}", args.join(" ")), said.lines().next().unwrap_or_default(), "");
    Ok(())
}

/// payments calls the ledger's entries, and its own sidecar's record of it.
async fn call(mesh: &Mesh, method: Method) -> Result<(Answer, Record)> {
    let payments = mesh.member(Service::Payments);
    let mark = payments.records.mark()?;
    let body = match method {
        Method::POST => json!({ "from": "alice", "to": "bob", "amount_cents": 100 }).to_string(),
        _ => String::new(),
    };
    let answer = payments.call(method, ENTRIES, &body).await?;
    let record = payments.records.find(mark, |record| record.field("direction") == "outbound").await?;
    Ok((answer, record))
}
