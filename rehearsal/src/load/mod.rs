//! Requests of our own: so many a second, whatever becomes of those before.

mod connection;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::header::HOST;
use http::{HeaderValue, Request, Uri};
use http_body_util::Full;
use palisade_policy::rehearsal::{Load, LoadRequest};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};
use uuid::Uuid;

use crate::evidence::Shared;
use crate::sample::Outcome;
use connection::Connections;

/// Sends until it is dropped.
#[derive(Debug)]
pub(crate) struct Generator {
    sending: AbortHandle,
}

impl Generator {
    /// `requests_max`: what is kept is bounded, whatever happens. `start`: the begin of the rehearsal.
    pub(crate) fn start(load: &Load, samples: &Shared, start: Instant, requests_max: u64) -> Result<Self> {
        let sender = Sender::new(load, samples.clone(), start)?;
        let sending = tokio::spawn(send_on(Arc::new(sender), start.elapsed(), requests_max)).abort_handle();
        Ok(Self { sending })
    }
}

impl Drop for Generator {
    fn drop(&mut self) {
        self.sending.abort();
    }
}

/// Sends request by request at its time. Those under way end with this.
async fn send_on(sender: Arc<Sender>, begin: Duration, requests_max: u64) {
    let mut under_way = JoinSet::new();
    for number in 0..requests_max {
        let due = begin.saturating_add(offset(number, sender.per_second));
        sleep_until(sender.start + due).await;
        while under_way.try_join_next().is_some() {}
        sender.samples.lock().begun(number, due, sender.start.elapsed());
        if under_way.len() >= sender.max_in_flight {
            sender.over(number, Outcome::NotSent);
        } else {
            let sender = sender.clone();
            under_way.spawn(async move {
                let outcome = sender.send(number).await;
                sender.over(number, outcome);
            });
        }
    }
    while under_way.join_next().await.is_some() {}
}

/// When a request is due. Counted from the first, so that nothing adds up.
fn offset(number: u64, per_second: u32) -> Duration {
    let rate = u64::from(per_second).max(1);
    let rest = number % rate * 1_000_000_000 / rate;
    Duration::from_secs(number / rate).saturating_add(Duration::from_nanos(rest))
}

#[derive(Debug)]
struct Sender {
    ready: Vec<Ready>,
    /// With what the values of the key begin: no other run has it.
    run: Uuid,
    per_second: u32,
    max_in_flight: usize,
    timeout: Duration,
    start: Instant,
    samples: Shared,
    connections: HashMap<SocketAddr, Connections>,
}

/// A request but for its key.
#[derive(Debug)]
struct Ready {
    to: SocketAddr,
    request: Request<Full<Bytes>>,
    key: Option<http::HeaderName>,
}

impl Sender {
    fn new(load: &Load, samples: Shared, start: Instant) -> Result<Self> {
        let ready: Vec<Ready> =
            load.requests.iter().map(|request| Ready::new(load, request)).collect::<Result<_>>()?;
        let connections = ready.iter().map(|ready| (ready.to, Connections::new(ready.to)));
        Ok(Self {
            connections: connections.collect(),
            ready,
            run: Uuid::new_v4(),
            per_second: load.per_second,
            max_in_flight: load.max_in_flight,
            timeout: load.timeout,
            start,
            samples,
        })
    }

    fn over(&self, number: u64, outcome: Outcome) {
        let mut samples = self.samples.lock();
        // Read while nobody else can add to them: they stand in the order in which they ended.
        samples.over(number, self.start.elapsed(), outcome);
    }

    async fn send(&self, number: u64) -> Outcome {
        let count = u64::try_from(self.ready.len()).unwrap_or(u64::MAX).max(1);
        let ready = usize::try_from(number % count).ok().and_then(|turn| self.ready.get(turn));
        let Some(ready) = ready else { return Outcome::NotSent };
        let Some(connections) = self.connections.get(&ready.to) else { return Outcome::NotSent };
        let request = ready.with_key(self.run, number);
        let sent = timeout(self.timeout, connections.send(request)).await;
        sent.unwrap_or(Outcome::TimedOut)
    }
}

impl Ready {
    fn new(load: &Load, request: &LoadRequest) -> Result<Self> {
        let to = load.address(request).context("a request leads to no address")?;
        let authority = request.url.authority().context("a URL without a host")?;
        // A proxy is told the whole URL, a server its path (RFC 9112 section 3.2).
        let path = request.url.path_and_query().map_or("/", |path| path.as_str());
        let target: Uri = if load.via.is_some() { request.url.clone() } else { path.parse()? };
        let body = Full::new(Bytes::copy_from_slice(request.body.as_bytes()));
        let mut ready = Request::new(body);
        *ready.method_mut() = request.method.clone();
        *ready.uri_mut() = target;
        *ready.headers_mut() = request.headers.clone();
        ready.headers_mut().insert(HOST, HeaderValue::from_str(authority.as_str())?);
        Ok(Self { to, request: ready, key: load.idempotency_key.clone() })
    }

    fn with_key(&self, run: Uuid, number: u64) -> Request<Full<Bytes>> {
        let mut request = self.request.clone();
        if let Some(name) = &self.key
            && let Ok(value) = HeaderValue::from_str(&format!("{run}-{number}"))
        {
            request.headers_mut().insert(name, value);
        }
        request
    }
}

#[cfg(test)]
mod tests;
