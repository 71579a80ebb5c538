use anyhow::Result;
use http::{Method, StatusCode};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::super::ENTRIES;
use super::{Report, inject, stop_all};
use crate::client::Connection;
use crate::mesh::Mesh;
use crate::service::Service;

/// What a caller may have under way at the ledger: `http2MaxRequests` of examples/fintech/ledger-traffic.yaml.
const BOUND: usize = 40;
const CALLS: usize = 50;

/// The ledger is slow, and payments calls it more often than its bound allows: what is over it fails at once and waits for
/// nobody, and the ledger sees no more than the bound.
pub(in crate::scene) async fn play(mesh: &mut Mesh) -> Result<Report> {
    let mut report = Report::default();
    inject(mesh, &mut report, "slow-ledger", &["--delay", "2s"]).await?;
    let (payments, ledger) = (mesh.member(Service::Payments), mesh.member(Service::Ledger));
    let (mark, before) = (payments.records.mark()?, ledger.received().await?);
    let mut connections = Vec::new();
    for _ in 0..CALLS {
        connections.push(Connection::open(&payments.outbound_proxy()?).await?);
    }
    let mut calls = JoinSet::new();
    for mut connection in connections {
        calls.spawn(async move {
            let begun = Instant::now();
            let answer = connection.send(Method::GET, ENTRIES, "ledger.fintech:8080", "").await?;
            anyhow::Ok((answer.status, begun.elapsed()))
        });
    }
    let answers = calls.join_all().await.into_iter().collect::<Result<Vec<_>>>()?;
    let of = |status| answers.iter().filter(move |(got, _)| *got == status).map(|(_, took)| *took);
    let (served, refused) = (of(StatusCode::OK).count(), of(StatusCode::SERVICE_UNAVAILABLE).count());
    let slowest = of(StatusCode::SERVICE_UNAVAILABLE).max().unwrap_or_default();
    let record = payments.records.find(mark, |record| record.field("reason") == "upstream_overflow").await?;
    report.step(
        format!("payments sends {CALLS} GET {ENTRIES} at once"),
        format!("{served} answered, {refused} refused, the last refusal after {} ms", slowest.as_millis()),
        format!("payments' sidecar: {}, flags {}", record.why(), record.field("response_flags")),
    );
    report.expect("answered", BOUND, served);
    report.expect("refused", CALLS - BOUND, refused);
    report.expect(
        "refused before any of the others was answered",
        true,
        of(StatusCode::OK).all(|took| took > slowest),
    );
    report.expect("flag", "UO", record.field("response_flags"));
    report.expect("what the ledger received", BOUND, ledger.received().await? - before);
    stop_all(mesh, &mut report).await?;
    let answer = payments.call(Method::GET, ENTRIES, "").await?;
    report.expect("status after the kill switch", 200, answer.status.as_u16());
    Ok(report)
}
