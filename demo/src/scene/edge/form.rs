use anyhow::Result;
use http::Method;
use http::header::{CONTENT_TYPE, HeaderValue};

use super::{Report, entries, login, request, send};
use crate::mesh::Mesh;
use crate::service::Service;

/// As the RequestGuard has it.
const BODY_BYTES_MAX: usize = 4096;

/// alice may make transfers, but not as a form, and not with a body that no transfer needs.
pub(in crate::scene) async fn play(mesh: &mut Mesh) -> Result<Report> {
    let mut report = Report::default();
    let token = login(mesh, "alice", "wonderland").await?;
    let before = (mesh.member(Service::Payments).received().await?, entries(mesh).await?);

    let mut form = request(Method::POST, "/transfers", Some(&token), "from=alice&to=bob&amount_cents=500")?;
    form.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    let (answer, record) = send(mesh, form).await?;
    super::step(&mut report, "POST /transfers with alice's token, as a form", &answer, &record);
    report.expect("status of the form", 415, answer.status.as_u16());
    report.expect("reason", "guard_content_type", record.field("reason"));

    let padded = format!("{{\"from\":\"alice\",\"to\":\"bob\"{}}}", " ".repeat(BODY_BYTES_MAX));
    let (answer, record) = send(mesh, request(Method::POST, "/transfers", Some(&token), &padded)?).await?;
    super::step(&mut report, "POST /transfers with 4 KiB of spaces in its JSON", &answer, &record);
    report.expect("status of the large body", 413, answer.status.as_u16());
    report.expect("reason", "guard_body_bytes", record.field("reason"));
    report.expect("policy", "fintech/edge", record.field("policy"));

    let after = (mesh.member(Service::Payments).received().await?, entries(mesh).await?);
    report.expect("what payments received, and entries", format!("{before:?}"), format!("{after:?}"));
    Ok(report)
}
