//! Scenes at the edge: what comes from outside in TLS, and what of it reaches the services.

pub(super) mod balance;
pub(super) mod false_tokens;
pub(super) mod forged;
pub(super) mod form;
pub(super) mod guesses;
pub(super) mod login;
pub(super) mod scope;
pub(super) mod transfer;
pub(super) mod transfers;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderValue};
use http::{Method, Request};
use http_body_util::Full;
use serde_json::{Value, json};

use super::Report;
use crate::client::{self, Answer};
use crate::mesh::{HOST, Mesh};
use crate::record::Record;
use crate::service::Service;

/// A request from outside, with a token or without.
fn request(method: Method, path: &str, token: Option<&str>, body: &str) -> Result<Request<Full<Bytes>>> {
    let mut request = client::request(method, path, HOST, body)?;
    if let Some(token) = token {
        request.headers_mut().insert(AUTHORIZATION, HeaderValue::try_from(format!("Bearer {token}"))?);
    }
    Ok(request)
}

/// Sends it on a connection of its own, and gives the edge's record with the answer.
async fn send(mesh: &Mesh, request: Request<Full<Bytes>>) -> Result<(Answer, Record)> {
    let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
    let mark = mesh.edge.records.mark()?;
    let answer = mesh.edge.connect().await?.request(request).await?;
    // The record of an earlier request may be written late.
    let (status, id) = (answer.status.as_str(), answer.decision_id());
    let wanted = |r: &Record| {
        let same =
            r.field("method") == method && r.field("path") == path && r.field("response_code") == status;
        same && (id.is_empty() || r.field("decision_id") == id)
    };
    let record = mesh.edge.records.find(mark, wanted).await?;
    Ok((answer, record))
}

async fn balance(mesh: &Mesh, account: &str, token: Option<&str>) -> Result<(Answer, Record)> {
    send(mesh, request(Method::GET, &format!("/accounts/{account}/balance"), token, "")?).await
}

async fn transfer(mesh: &Mesh, from: &str, to: &str, token: &str) -> Result<(Answer, Record)> {
    let body = json!({ "from": from, "to": to, "amount_cents": 500 }).to_string();
    send(mesh, request(Method::POST, "/transfers", Some(token), &body)?).await
}

fn login_request(user: &str, password: &str) -> Result<Request<Full<Bytes>>> {
    let body = json!({ "user": user, "password": password }).to_string();
    request(Method::POST, "/login", None, &body)
}

/// A token from auth itself: through the edge an address has ten logins a minute, and whoever plays on needs some.
async fn login(mesh: &Mesh, user: &str, password: &str) -> Result<String> {
    let body = json!({ "user": user, "password": password }).to_string();
    token(&mesh.member(Service::Auth).ask_app(Method::POST, "/login", &body).await?)
}

/// The token in auth's answer.
fn token(answer: &Answer) -> Result<String> {
    let body: Value = serde_json::from_str(&answer.body).unwrap_or_default();
    let token = body.get("access_token").and_then(Value::as_str);
    Ok(token.with_context(|| format!("the login gave no token: {}", answer.line()))?.to_owned())
}

/// How many entries the ledger has, asked behind all doors.
async fn entries(mesh: &Mesh) -> Result<usize> {
    let answer = mesh.member(Service::Ledger).ask_app(Method::GET, "/entries", "").await?;
    let body: Value = serde_json::from_str(&answer.body)?;
    Ok(body.get("entries").and_then(Value::as_array).context("the ledger shows no entries")?.len())
}

/// A step that the edge decided alone.
fn step(report: &mut Report, sent: impl Into<String>, answer: &Answer, record: &Record) {
    report.step(sent, answer.line(), format!("the edge: {}", record.why()));
}
