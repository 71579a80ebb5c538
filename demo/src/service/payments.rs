//! payments: a transfer is one entry in the ledger and one message to the customer.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Call, Outbound, Reply};

#[derive(Debug)]
pub(super) struct Payments {
    outbound: Outbound,
    transfers: AtomicU64,
}

impl Payments {
    pub(super) fn new(outbound: Outbound) -> Self {
        Self { outbound, transfers: AtomicU64::new(1) }
    }

    /// `POST /transfers`.
    pub(super) async fn answer(&self, call: &Call) -> Result<Reply> {
        if (&call.method, call.path.as_str()) != (&Method::POST, "/transfers") {
            return Ok(Reply::not_found());
        }
        if !call.body.get("from").and_then(Value::as_str).is_none_or(|from| call.may_act_for(from)) {
            return Ok(Reply::not_yours());
        }
        let entries = "http://ledger.fintech:8080/entries";
        let answer = self.outbound.call(call, Method::POST, entries, &call.body).await?;
        if answer.status != StatusCode::CREATED {
            return Ok(Reply::upstream("ledger", &answer));
        }
        let entry: Value = serde_json::from_str(&answer.body)?;
        let id = format!("tr-{:04}", self.transfers.fetch_add(1, Ordering::Relaxed));
        let notified = self.notify(&id, call).await;
        Ok(Reply(
            StatusCode::CREATED,
            json!({ "transfer": id, "ledger_entry": entry.get("id"), "notified": notified }),
        ))
    }

    /// A message that cannot be sent does not undo a transfer.
    async fn notify(&self, transfer: &str, call: &Call) -> bool {
        let to = call.body.get("to");
        let message = json!({ "to": to, "text": format!("transfer {transfer} has arrived") });
        let messages = "http://notifications.fintech:8080/messages";
        let sent = self.outbound.call(call, Method::POST, messages, &message).await;
        sent.is_ok_and(|answer| answer.status == StatusCode::ACCEPTED)
    }
}
