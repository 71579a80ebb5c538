//! A steady load, counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use http::{Method, StatusCode};
use tokio::task::JoinSet;

use crate::client::Connection;
use crate::door::Door;

const CALLERS: usize = 4;
/// Between two requests of one caller: a load, not a benchmark.
const PAUSE: Duration = Duration::from_millis(2);

/// Callers that go on until they are stopped.
#[derive(Debug)]
pub(crate) struct Load {
    callers: JoinSet<Vec<String>>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    sent: AtomicU64,
}

/// What the callers saw.
#[derive(Clone, Debug)]
pub(crate) struct Counted {
    pub(crate) sent: u64,
    /// One text for each request that was not answered 200.
    pub(crate) failures: Vec<String>,
}

impl Load {
    /// GETs of `url` through an HTTP_PROXY, each caller on a connection that it keeps.
    pub(crate) fn start(proxy: &Door, url: &'static str, host: &'static str) -> Self {
        let shared = Arc::new(Shared::default());
        let mut callers = JoinSet::new();
        for _ in 0..CALLERS {
            callers.spawn(caller(shared.clone(), proxy.clone(), url, host));
        }
        Self { callers, shared }
    }

    pub(crate) fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::Relaxed)
    }

    pub(crate) async fn stop(self) -> Result<Counted> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let mut failures = Vec::new();
        let mut callers = self.callers;
        while let Some(done) = callers.join_next().await {
            failures.extend(done?);
        }
        Ok(Counted { sent: self.shared.sent.load(Ordering::Relaxed), failures })
    }
}

async fn caller(shared: Arc<Shared>, proxy: Door, url: &str, host: &str) -> Vec<String> {
    let mut failures = Vec::new();
    let mut connection = None;
    while !shared.stop.load(Ordering::Relaxed) {
        if let Err(error) = once(&mut connection, &proxy, url, host).await {
            failures.push(format!("{error:#}"));
            connection = None;
        }
        shared.sent.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(PAUSE).await;
    }
    failures
}

async fn once(connection: &mut Option<Connection>, proxy: &Door, url: &str, host: &str) -> Result<()> {
    let connection = match connection {
        Some(open) => open,
        None => connection.insert(Connection::open(proxy).await?),
    };
    let answer = connection.send(Method::GET, url, host, "").await?;
    anyhow::ensure!(answer.status == StatusCode::OK, "{}", answer.line());
    Ok(())
}
