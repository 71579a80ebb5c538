//! ledger: the entries, in memory.

use std::sync::{Mutex, PoisonError};

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Call, Reply};

/// The demo writes a few, a rehearsal some thousand; a loop left running must not eat the memory.
const ENTRIES_MAX: usize = 100_000;

#[derive(Clone, Debug, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    #[serde(default)]
    id: usize,
    from: String,
    to: String,
    amount_cents: i64,
}

#[derive(Debug, Default)]
pub(super) struct Ledger {
    entries: Mutex<Vec<Entry>>,
}

impl Ledger {
    /// `GET`, `POST` and `DELETE /entries`, `GET /balances/{account}`.
    pub(super) fn answer(&self, call: &Call) -> Reply {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        match (&call.method, call.path.as_str()) {
            (&Method::GET, "/entries") => Reply(StatusCode::OK, json!({ "entries": *entries })),
            (&Method::POST, "/entries") => record(&mut entries, &call.body),
            (&Method::DELETE, "/entries") => {
                let removed = entries.len();
                entries.clear();
                Reply(StatusCode::OK, json!({ "removed": removed }))
            }
            (&Method::GET, path) => match path.strip_prefix("/balances/") {
                Some(account) => Reply(
                    StatusCode::OK,
                    json!({ "account": account, "balance_cents": balance(&entries, account) }),
                ),
                None => Reply::not_found(),
            },
            _ => Reply::not_found(),
        }
    }
}

fn record(entries: &mut Vec<Entry>, body: &Value) -> Reply {
    let Ok(entry) = serde_json::from_value::<Entry>(body.clone()) else {
        return Reply::wrong("an entry has from, to and amount_cents");
    };
    if entry.amount_cents <= 0 || entry.from == entry.to {
        return Reply::wrong("amount_cents is positive, from and to differ");
    }
    if entries.len() >= ENTRIES_MAX {
        return Reply(StatusCode::INSUFFICIENT_STORAGE, json!({ "error": "the ledger is full" }));
    }
    let entry = Entry { id: entries.len() + 1, ..entry };
    entries.push(entry.clone());
    Reply(StatusCode::CREATED, json!(entry))
}

fn balance(entries: &[Entry], account: &str) -> i64 {
    let amounts = entries.iter().map(|entry| {
        if entry.to == account {
            entry.amount_cents
        } else if entry.from == account {
            entry.amount_cents.saturating_neg()
        } else {
            0
        }
    });
    amounts.fold(0, i64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(ledger: &Ledger, method: Method, path: &str, body: Value) -> Reply {
        ledger.answer(&Call { method, path: path.into(), headers: Value::Null, body })
    }

    #[test]
    fn records_entries_and_adds_them_up() {
        let ledger = Ledger::default();
        let entry = json!({ "from": "alice", "to": "bob", "amount_cents": 1250 });
        let Reply(status, body) = call(&ledger, Method::POST, "/entries", entry);
        assert_eq!((status, &body["id"]), (StatusCode::CREATED, &json!(1)));
        let Reply(_, body) = call(&ledger, Method::GET, "/balances/alice", Value::Null);
        assert_eq!(body["balance_cents"], -1250);
        let Reply(_, body) = call(&ledger, Method::DELETE, "/entries", Value::Null);
        assert_eq!(body["removed"], 1);
    }

    #[test]
    fn refuses_entries_that_mean_nothing() {
        let ledger = Ledger::default();
        for body in [
            Value::Null,
            json!({ "from": "a", "to": "b" }),
            json!({ "from": "a", "to": "b", "amount_cents": 0 }),
            json!({ "from": "a", "to": "a", "amount_cents": 1 }),
            json!({ "from": "a", "to": "b", "amount_cents": 1, "note": "x" }),
        ] {
            let Reply(status, _) = call(&ledger, Method::POST, "/entries", body.clone());
            assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
        }
    }
}
