//! notifications: takes messages; its digest would like to read the ledger.

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Call, Outbound, Reply};

#[derive(Debug)]
pub(super) struct Notifications {
    outbound: Outbound,
    messages: AtomicUsize,
}

impl Notifications {
    pub(super) fn new(outbound: Outbound) -> Self {
        Self { outbound, messages: AtomicUsize::new(0) }
    }

    /// `POST /messages`, `GET /digest`.
    pub(super) async fn answer(&self, call: &Call) -> Result<Reply> {
        match (&call.method, call.path.as_str()) {
            (&Method::POST, "/messages") => {
                let queued = self.messages.fetch_add(1, Ordering::Relaxed) + 1;
                Ok(Reply(StatusCode::ACCEPTED, json!({ "queued": queued })))
            }
            (&Method::GET, "/digest") => self.digest(call).await,
            _ => Ok(Reply::not_found()),
        }
    }

    async fn digest(&self, call: &Call) -> Result<Reply> {
        let entries = "http://ledger.fintech:8080/entries";
        let answer = self.outbound.call(call, Method::GET, entries, &Value::Null).await?;
        if answer.status != StatusCode::OK {
            return Ok(Reply::upstream("ledger", &answer));
        }
        let entries: Value = serde_json::from_str(&answer.body)?;
        Ok(Reply(StatusCode::OK, json!({ "digest": entries.get("entries") })))
    }
}
