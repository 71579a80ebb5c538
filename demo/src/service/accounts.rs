//! accounts: shows balances, which the ledger computes.

use anyhow::Result;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Call, Outbound, Reply};

#[derive(Debug)]
pub(super) struct Accounts {
    pub(super) outbound: Outbound,
}

impl Accounts {
    /// `GET /accounts/{id}/balance`.
    pub(super) async fn answer(&self, call: &Call) -> Result<Reply> {
        let account = call.path.strip_prefix("/accounts/").and_then(|rest| rest.strip_suffix("/balance"));
        let Some(account) = account.filter(|_| call.method == Method::GET) else {
            return Ok(Reply::not_found());
        };
        if !call.may_act_for(account) {
            return Ok(Reply::not_yours());
        }
        let url = format!("http://ledger.fintech:8080/balances/{account}");
        let answer = self.outbound.call(call, Method::GET, &url, &Value::Null).await?;
        if answer.status != StatusCode::OK {
            return Ok(Reply::upstream("ledger", &answer));
        }
        let balance: Value = serde_json::from_str(&answer.body)?;
        Ok(Reply(
            StatusCode::OK,
            json!({ "account": account, "balance_cents": balance.get("balance_cents"), "currency": "EUR" }),
        ))
    }
}
