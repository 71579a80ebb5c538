use anyhow::Result;
use http::Method;

use super::Report;
use crate::mesh::{Mesh, identity};
use crate::service::Service;

/// A transfer: payments writes an entry to the ledger; accounts then reads the balance. Neither knows of TLS.
pub(super) async fn play(mesh: &mut Mesh) -> Result<Report> {
    let mut report = Report::default();
    let ledger = &mesh.member(Service::Ledger).records;

    let mark = ledger.mark()?;
    let transfer = r#"{"from":"alice","to":"bob","amount_cents":1250}"#;
    let answer = mesh.member(Service::Payments).ask_app(Method::POST, "/transfers", transfer).await?;
    let record = ledger.find(mark, |r| r.field("method") == "POST").await?;
    let sent = format!(
        "POST /transfers {transfer} to payments, which sends POST {} through its sidecar",
        super::ENTRIES
    );
    report.step(sent, answer.line(), record.why());
    report.expect("status", 201, answer.status.as_u16());
    report.expect(
        "caller, as the ledger's sidecar saw it",
        identity(Service::Payments)?,
        record.field("source_principal"),
    );
    report.expect("decision", "allowed", record.field("decision"));
    report.expect("policy", "fintech/ledger-payments", record.field("policy"));

    let mark = ledger.mark()?;
    let answer = mesh.member(Service::Accounts).ask_app(Method::GET, "/accounts/bob/balance", "").await?;
    let record = ledger.find(mark, |r| r.field("path") == "/balances/bob").await?;
    report.step("GET /accounts/bob/balance to accounts, which asks the ledger", answer.line(), record.why());
    report.expect("status", 200, answer.status.as_u16());
    report.expect("policy", "fintech/ledger-accounts", record.field("policy"));
    Ok(report)
}
