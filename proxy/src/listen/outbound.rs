//! A connection from the application: plaintext on loopback, HTTP/1.1 or HTTP/2 with prior knowledge.

use std::net::SocketAddr;
use std::rc::Rc;

use http::uri::Authority;
use palisade_policy::kind::service_entry::Protocol;
use tokio::net::TcpStream;

use super::connection::Slot;
use super::detect;
use super::drive::{Patience, drive};
use super::refused;
use crate::error::ProxyError;
use crate::http::transport::Transport;
use crate::pipeline::outbound::{fixed_authority, serve};
use crate::pipeline::tcp;
use crate::settings::LocalPort;
use crate::telemetry::record::{Record, Source};
use crate::worker::{Direction, Worker};

/// An outbound connection, as its requests see it.
#[derive(Debug)]
pub(crate) struct Outbound {
    pub(crate) worker: Rc<Worker>,
    pub(crate) source: Source,
    /// The destination of a named local port; `None` on the proxy listener, where each request names its own.
    pub(crate) fixed: Option<Authority>,
    _slot: Slot,
}

impl Outbound {
    /// What the destination of a named local port speaks; on the proxy listener HTTP. `None`: nobody knows.
    fn leads_to(&self) -> Option<Protocol> {
        let Some(fixed) = &self.fixed else { return Some(Protocol::Http) };
        let snapshot = self.worker.shared.live.snapshot();
        snapshot.as_ref()?.destination(fixed.as_str(), 0).map(|destination| destination.protocol)
    }
}

/// Serves an accepted connection to its end.
pub(super) async fn accept(
    worker: Rc<Worker>,
    port: Option<LocalPort>,
    stream: TcpStream,
    peer: SocketAddr,
    slot: Slot,
) {
    let fixed = port.as_ref().and_then(|port| fixed_authority(&port.host, port.port));
    let source = Source { address: peer, tls: None };
    let connection = Rc::new(Outbound { worker, source, fixed, _slot: slot });
    let worker = &connection.worker;
    let limits = &worker.shared.limits;
    let idle = limits.application_idle_timeout;
    let stream = Transport::Plain(stream);
    let first = match connection.leads_to() {
        Some(Protocol::Tcp) => return tcp::outbound(&connection, stream).await,
        Some(_) => idle,
        // Whoever waits there for a server to speak must not wait for ever.
        None => limits.header_read_timeout,
    };
    let (wire, io) = match tokio::time::timeout(first, detect::wire(stream)).await {
        Ok(Ok(Some(detected))) => detected,
        Ok(_) => return,
        Err(_silent) if connection.leads_to().is_none() => {
            let record = Record::open(worker, Direction::Outbound, &connection.source);
            return record.connection_refused(&ProxyError::UnknownDestination, "unknown_destination");
        }
        Err(_silent) => return,
    };
    let handler = |request| serve(connection.clone(), request);
    // Never asked to stop: the application may need calls to finish its work while the inbound side drains.
    let refused = refused::recorder(worker, Direction::Outbound, || {
        Record::open(worker, Direction::Outbound, &connection.source)
    });
    let patience = Patience { idle, head: idle, stall: None, strict: false };
    drive(worker, wire, io, patience, handler, std::future::pending(), refused).await;
}
