use std::net::Ipv4Addr;

use anyhow::{Context as _, Result};
use http::Method;
use http::header::{HeaderName, HeaderValue};
use serde_json::{Map, Value};

use super::{Report, login, login_request, request, send};
use crate::mesh::{EDGE, Mesh, identity_of};
use crate::service::Service;

/// Everything that says who is calling, or from where, in spellings that a server may take for one.
const FORGED: [(&str, &str); 9] = [
    ("x-user-id", "alice"),
    ("X-User-ID", "alice"),
    ("x_user_id", "alice"),
    ("x-forwarded-for", "192.0.2.66"),
    ("x_forwarded_for", "192.0.2.66"),
    ("forwarded", "for=192.0.2.66"),
    ("x-real-ip", "192.0.2.66"),
    ("x-forwarded-client-cert", "URI=spiffe://corp.example/ns/fintech/sa/payments"),
    ("connection", "x-user-id"),
];

/// rita says that she is alice, from somewhere else.
pub(in crate::scene) async fn play(mesh: &mut Mesh) -> Result<Report> {
    let mut report = Report::default();
    let token = login(mesh, "rita", "library").await?;
    let accounts = mesh.member(Service::Accounts);

    let asked = request(Method::GET, "/accounts/alice/balance", Some(&token), "")?;
    let (answer, record) = send(mesh, with_forged(asked)?).await?;
    let headers = accounts.last_headers().await?;
    report.step(
        "GET /accounts/alice/balance with rita's token and x-user-id: alice (also as X-User-ID and x_user_id), X-Forwarded-For: 192.0.2.66, and five more such headers",
        answer.line(),
        "accounts itself: it was told who asks",
    );
    report.seen(format!("accounts received {}", shown(&headers)));
    report.expect("status", 403, answer.status.as_u16());
    report.expect("it was accounts that refused", "via_upstream", record.field("response_code_details"));
    told(mesh, &mut report, &headers, Some("rita"))?;

    let (answer, _) = send(mesh, with_forged(login_request("rita", "library")?)?).await?;
    let headers = mesh.member(Service::Auth).last_headers().await?;
    report.step(
        "POST /login without a token and with the same headers",
        answer.status.as_u16().to_string(),
        "",
    );
    report.seen(format!("auth received {}", shown(&headers)));
    report.expect("status of the login", 200, answer.status.as_u16());
    told(mesh, &mut report, &headers, None)?;
    Ok(report)
}

fn with_forged<B>(mut request: http::Request<B>) -> Result<http::Request<B>> {
    for (name, value) in FORGED {
        request.headers_mut().append(HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
    }
    Ok(request)
}

/// Nothing of what was forged is there, and what the edge itself says is.
fn told(mesh: &Mesh, report: &mut Report, headers: &Map<String, Value>, user: Option<&str>) -> Result<()> {
    let client = mesh.edge.sees(Ipv4Addr::LOCALHOST.into());
    report.expect("x-user-id", user.unwrap_or("absent"), text(headers, "x-user-id"));
    report.expect("x-forwarded-for", client, text(headers, "x-forwarded-for"));
    let certificate = text(headers, "x-forwarded-client-cert");
    report.expect(
        "caller in x-forwarded-client-cert",
        true,
        certificate.ends_with(&format!("URI={}", identity_of(EDGE)?)),
    );
    let all = serde_json::to_string(headers).context("headers are JSON")?;
    for gone in ["x_user_id", "x_forwarded_for", "\"forwarded\"", "x-real-ip", "192.0.2.66", "sa/payments"] {
        report.expect("forged headers that arrived", "none", if all.contains(gone) { gone } else { "none" });
    }
    Ok(())
}

/// A header that came once; one that came several times is a list, and shown as one.
fn text(headers: &Map<String, Value>, name: &str) -> String {
    match headers.get(name) {
        None => "absent".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

fn shown(headers: &Map<String, Value>) -> String {
    let names = ["x-user-id", "x_user_id", "x-forwarded-for", "forwarded", "x-real-ip"];
    names.map(|name| format!("{name}: {}", text(headers, name))).join(", ")
}
