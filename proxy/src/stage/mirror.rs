//! Copies of requests for mirrors. The original never waits for one, and nobody gets its answer.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use http::uri::Authority;
use http::{HeaderMap, Request, request};
use http_body_util::BodyExt;
use palisade_policy::Permit;
use palisade_policy::compile::Destination;

use super::forward::{address, forward};
use super::reach::reach;
use super::route::Forwarding;
use super::slot::Slot;
use super::wire::Manner;
use crate::error::ProxyError;
use crate::http::body::{RequestBody, ResponseBody};
use crate::http::copy::{CopyReader, CopyWriter, copy};
use crate::http::normalize::Target;
use crate::identity::Identity;
use crate::telemetry::record::Record;
use crate::worker::Worker;

/// A copy with leave to go.
#[derive(Debug)]
pub(crate) struct Mirror {
    pub(crate) destination: Arc<Destination>,
    pub(crate) permit: Permit,
    pub(crate) record: Box<Record>,
    slot: Slot,
}

/// A place among the copies that a worker has under way. `None` where there are too many: the request goes on without a copy.
pub(crate) fn slot(worker: &Rc<Worker>) -> Option<Slot> {
    let slot = Slot::take(worker, |worker| &worker.mirrors, worker.shared.limits.mirrors_max);
    if slot.is_none() {
        worker.telemetry.count(|shard| shard.mirrors_dropped += 1);
    }
    slot
}

impl Mirror {
    pub(crate) fn new(
        destination: Arc<Destination>,
        permit: Permit,
        record: Box<Record>,
        slot: Slot,
    ) -> Self {
        Self { destination, permit, record, slot }
    }

    /// The original does not go either.
    pub(crate) fn give_up(mut self) {
        self.record.copy_failed(&ProxyError::CopyBroke);
    }
}

/// What the copies of one request have in common.
pub(crate) struct Original<'o> {
    pub(crate) worker: &'o Rc<Worker>,
    /// As it goes upstream, but for the target.
    pub(crate) head: &'o request::Parts,
    pub(crate) forwarding: &'o Forwarding,
    pub(crate) identity: &'o Arc<Identity>,
    pub(crate) grpc: bool,
}

impl Original<'_> {
    /// Sends the copies on their way. What is given back wants the original's body.
    pub(crate) fn send_copies(&self, mirrors: Vec<Mirror>) -> Vec<CopyWriter> {
        let waiting_max = self.worker.shared.limits.mirror_waiting_bytes_max;
        let each = mirrors.into_iter().map(|mirror| {
            let (writer, reader) = copy(waiting_max);
            let sending = Sending {
                worker: self.worker.clone(),
                headers: self.head.headers.clone(),
                method: self.head.method.clone(),
                target: Target {
                    authority: shadow(&self.forwarding.authority),
                    path: self.forwarding.path.clone(),
                    kept: false,
                },
                identity: self.identity.clone(),
                timeout: self.forwarding.timeout(),
                grpc: self.grpc,
            };
            tokio::task::spawn_local(sending.run(mirror, reader));
            writer
        });
        each.collect()
    }
}

/// A copy on its way.
struct Sending {
    worker: Rc<Worker>,
    method: http::Method,
    headers: HeaderMap,
    target: Target,
    identity: Arc<Identity>,
    timeout: Option<std::time::Duration>,
    grpc: bool,
}

impl Sending {
    async fn run(self, mirror: Mirror, body: CopyReader) {
        let Mirror { destination, permit, mut record, slot } = mirror;
        let worker = self.worker.clone();
        match self.ask(&destination, permit, body, &mut record).await {
            Ok(answer) => {
                let (head, incoming) = answer.0.into_parts();
                record.answered(head.status, &head.headers);
                let http2 = head.version == http::Version::HTTP_2;
                read_through(&worker, ResponseBody::upstream(incoming, http2, answer.1, record)).await;
            }
            Err(error) => {
                tracing::debug!(%error, destination = &*destination.host, "a mirror got no copy");
                record.copy_failed(&error);
            }
        }
        drop(slot);
    }

    async fn ask(
        self,
        destination: &Arc<Destination>,
        permit: Permit,
        body: CopyReader,
        record: &mut Record,
    ) -> Result<super::forward::Answer, ProxyError> {
        let manner = Manner { grpc: self.grpc, upgrade: false };
        let mut way = reach(&self.worker, destination, self.identity, manner).await?;
        if let Some(timeout) = self.timeout {
            way.response_timeout = Some(timeout).filter(|timeout| !timeout.is_zero());
        }
        let mut head = Request::new(()).into_parts().0;
        head.method = self.method;
        head.headers = self.headers;
        address(&mut head, &self.target, way.wire, &way.security);
        let broken = body.broken();
        let request = Request::from_parts(head, RequestBody::copy(body, record.tally.clone()));
        let tally = record.tally.clone();
        tokio::select! {
            biased;
            why = broken => {
                tracing::debug!(%why, "a copy broke off");
                Err(ProxyError::CopyBroke)
            }
            answer = forward(permit, &self.worker, way, request, record) => {
                answer.map_err(|error| if tally.copy_broke.get() { ProxyError::CopyBroke } else { error })
            }
        }
    }
}

/// Reads the answer to its end: a mirror that was cut off would behave otherwise than the service that it stands for.
async fn read_through(worker: &Worker, mut body: ResponseBody) {
    let reading = async { while let Some(Ok(_thrown_away)) = body.frame().await {} };
    let _late = tokio::time::timeout(worker.shared.limits.response_timeout, reading).await;
    body.abandon();
}

/// As Envoy does it: a service can tell copies from requests, and so can its logs. An address stays as it is.
fn shadow(authority: &Authority) -> Authority {
    let host = authority.host();
    if host.starts_with('[') || host.parse::<IpAddr>().is_ok() {
        return authority.clone();
    }
    let port = authority.as_str().strip_prefix(host).unwrap_or_default();
    let host = host.trim_end_matches('.');
    Authority::try_from(format!("{host}-shadow{port}")).unwrap_or_else(|_never| authority.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_says_so_in_its_host() {
        for (asked, sent) in [
            ("api.example", "api.example-shadow"),
            ("api.example.:8080", "api.example-shadow:8080"),
            ("ledger", "ledger-shadow"),
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("[::1]:80", "[::1]:80"),
        ] {
            assert_eq!(shadow(&Authority::from_static(asked)), sent);
        }
    }
}
