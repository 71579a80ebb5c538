//! One accepted connection, in its worker.

use std::net::IpAddr;
use std::rc::Rc;

use tokio::net::TcpStream;

use super::{edge, inbound, outbound};
use crate::telemetry::Connection;
use crate::worker::{Accepted, Direction, Ticket, Via, Worker};

/// A place under the cap on connections, counted while it is held.
#[derive(Debug)]
pub(crate) struct Slot {
    worker: Rc<Worker>,
    direction: Direction,
    ticket: Ticket,
}

impl Slot {
    fn take(worker: &Rc<Worker>, direction: Direction, ticket: Ticket) -> Self {
        worker.telemetry.count(|shard| shard.connection(Connection::Opened(direction)));
        Self { worker: worker.clone(), direction, ticket }
    }

    /// A load balancer has told whose connection it is: from now on it counts under that address. `false`: the
    /// address has too many.
    pub(super) fn told(&mut self, client: IpAddr) -> bool {
        let Ticket::Outside(place) = &mut self.ticket else { return true };
        let told = place.told(client);
        if let Err(why) = told {
            self.worker.telemetry.count(|shard| shard.refused(self.direction, why));
        }
        told.is_ok()
    }

    /// The handshake is done.
    pub(super) fn opened(&mut self) {
        if let Ticket::Outside(place) = &mut self.ticket {
            place.opened();
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.worker.telemetry.count(|shard| shard.connection(Connection::Closed(self.direction)));
    }
}

/// Serves a connection to its end.
pub(crate) async fn connection(worker: Rc<Worker>, accepted: Accepted) {
    let direction = match accepted.via {
        Via::Inbound(_) => Direction::Inbound,
        Via::OutboundProxy | Via::OutboundPort(_) => Direction::Outbound,
        Via::Edge(_) => Direction::Edge,
    };
    let slot = Slot::take(&worker, direction, accepted.ticket);
    let stream = TcpStream::from_std(accepted.stream).and_then(|stream| {
        // A proxy writes whole messages: Nagle's wait for more helps nobody.
        stream.set_nodelay(true)?;
        Ok(stream)
    });
    let stream = match stream {
        Ok(stream) => stream,
        Err(error) => return tracing::debug!(%error, "an accepted socket cannot be used"),
    };
    match accepted.via {
        Via::Inbound(index) => {
            if let Some(serve) = worker.shared.settings.serves.get(index) {
                let serve = serve.clone();
                inbound::accept(worker, serve, stream, accepted.peer, slot).await;
            }
        }
        Via::Edge(index) => {
            let listens = worker.shared.settings.edge.as_ref().map(|edge| &edge.listens);
            if let Some(listen) = listens.and_then(|listens| listens.get(index)).copied() {
                edge::accept(worker, listen, stream, accepted.peer, slot).await;
            }
        }
        Via::OutboundProxy => outbound::accept(worker, None, stream, accepted.peer, slot).await,
        Via::OutboundPort(index) => {
            if let Some(port) = worker.shared.settings.outbound_ports.get(index) {
                let port = port.clone();
                outbound::accept(worker, Some(port), stream, accepted.peer, slot).await;
            }
        }
    }
}
