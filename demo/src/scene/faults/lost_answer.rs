use anyhow::Result;
use http::Method;

use super::{Report, call, inject, stop_all};
use crate::mesh::{Mesh, NAMESPACE};
use crate::service::Service;
use crate::yaml;

/// Tries of a request that may be repeated: the first, and the two that the route asks for.
const TRIES: u64 = 3;

/// The ledger does what it is asked, and its answers are lost: the case in which retries pay twice. An entry is made once, a
/// read is tried again.
pub(in crate::scene) async fn play(mesh: &mut Mesh) -> Result<Report> {
    let mut report = Report::default();
    let (retries, _) = yaml::LEDGER_RETRIES;
    mesh.operator().apply(&mesh.path("extra").join(retries)).await?;
    report.step(format!("palisade apply {retries}"), "every failure is to be tried again, it says", "");
    inject(mesh, &mut report, "lost-answers", &["--drop-response"]).await?;
    let ledger = mesh.member(Service::Ledger);

    for (method, tries) in [(Method::POST, 1), (Method::GET, TRIES)] {
        let before = ledger.received().await?;
        let (answer, record) = call(mesh, method.clone()).await?;
        let received = ledger.received().await? - before;
        report.step(
            format!("payments sends {method} /entries, and every answer of the ledger is lost"),
            format!("{}; the ledger received it {received} times", answer.line()),
            format!("payments' sidecar: {} tries after the first", record.field("retry_count")),
        );
        report.expect("status", 502, answer.status.as_u16());
        report.expect("what the ledger received", tries, received);
    }

    stop_all(mesh, &mut report).await?;
    let args = ["delete", "VirtualService", "ledger-retries", "-n", NAMESPACE, "--wait", "5s"];
    mesh.operator().run(&args).await?;
    let (answer, _) = call(mesh, Method::GET).await?;
    report.expect("status after the kill switch", 200, answer.status.as_u16());
    Ok(report)
}
