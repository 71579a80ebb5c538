//! The services: small HTTP servers that know nothing of the mesh but their HTTP_PROXY.

mod accounts;
mod auth;
mod ledger;
mod notifications;
mod outbound;
mod payments;
mod server;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context as _, Result};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::client::Answer;
use outbound::Outbound;

/// Which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Service {
    Auth,
    Accounts,
    Payments,
    Ledger,
    Notifications,
}

impl Service {
    pub const ALL: [Self; 5] =
        [Self::Auth, Self::Accounts, Self::Payments, Self::Ledger, Self::Notifications];

    /// Also its service account.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Accounts => "accounts",
            Self::Payments => "payments",
            Self::Ledger => "ledger",
            Self::Notifications => "notifications",
        }
    }
}

impl FromStr for Service {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|service| service.name() == text);
        found.with_context(|| {
            format!("no demo service {text:?}; there are auth, accounts, payments, ledger, notifications")
        })
    }
}

/// How one service process is started.
#[derive(Clone, Debug)]
pub struct Options {
    pub service: Service,
    pub listen: SocketAddr,
    /// Written when it listens: `{"listen":"ip:port"}`.
    pub ready_file: Option<PathBuf>,
    pub http_proxy: HttpProxy,
}

/// Where a service learns of its HTTP_PROXY.
#[derive(Clone, Debug)]
pub enum HttpProxy {
    At(SocketAddr),
    /// The ready file of its sidecar names it. Read at the first call, because the sidecar starts after the service.
    In(PathBuf),
}

/// Serves until SIGTERM or SIGINT.
pub fn serve(options: Options) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(server::run(options))
}

/// A request, whole.
#[derive(Clone, Debug)]
struct Call {
    method: Method,
    path: String,
    /// Name and value; of a name that came twice, a list.
    headers: Value,
    body: Value,
}

impl Call {
    /// A header that came once.
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(Value::as_str)
    }

    /// Whether the end user may act for an account. Who that is was verified at the edge, which lets nobody else say
    /// it; a call from within the mesh comes without one, and then its policies alone decide.
    fn may_act_for(&self, account: &str) -> bool {
        self.header("x-user-id").is_none_or(|user| user == account)
    }
}

/// An answer: always JSON.
#[derive(Clone, Debug)]
struct Reply(StatusCode, Value);

impl Reply {
    fn not_found() -> Self {
        Self(StatusCode::NOT_FOUND, json!({ "error": "no such resource" }))
    }

    fn not_yours() -> Self {
        Self(StatusCode::FORBIDDEN, json!({ "error": "this account is somebody else's" }))
    }

    fn wrong(problem: &str) -> Self {
        Self(StatusCode::BAD_REQUEST, json!({ "error": problem }))
    }

    /// What another service said, when it did not do what was asked.
    fn upstream(service: &str, answer: &Answer) -> Self {
        let body = serde_json::from_str(&answer.body).unwrap_or(Value::Null);
        Self(
            StatusCode::BAD_GATEWAY,
            json!({ "error": format!("{service} answered {}", answer.status.as_u16()), "answer": body }),
        )
    }
}

/// One running service.
#[derive(Debug)]
enum State {
    Auth(auth::Auth),
    Accounts(accounts::Accounts),
    Payments(payments::Payments),
    Ledger(ledger::Ledger),
    Notifications(notifications::Notifications),
}

impl State {
    fn new(service: Service, outbound: Outbound) -> Result<Self> {
        Ok(match service {
            Service::Auth => Self::Auth(auth::Auth::new()?),
            Service::Accounts => Self::Accounts(accounts::Accounts { outbound }),
            Service::Payments => Self::Payments(payments::Payments::new(outbound)),
            Service::Ledger => Self::Ledger(ledger::Ledger::default()),
            Service::Notifications => Self::Notifications(notifications::Notifications::new(outbound)),
        })
    }

    async fn answer(&self, call: &Call) -> Reply {
        let answer = match self {
            Self::Auth(auth) => auth.answer(call),
            Self::Accounts(accounts) => accounts.answer(call).await,
            Self::Payments(payments) => payments.answer(call).await,
            Self::Ledger(ledger) => Ok(ledger.answer(call)),
            Self::Notifications(notifications) => notifications.answer(call).await,
        };
        answer.unwrap_or_else(|error| {
            tracing::error!(error = format!("{error:#}"), "call failed");
            Reply(StatusCode::BAD_GATEWAY, json!({ "error": "another service cannot be reached" }))
        })
    }
}
