//! Accept loops: they only accept. Handshakes happen in the workers.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};

use super::Bound;
use super::crowd::Crowd;
use crate::drain::Phase;
use crate::telemetry::Counters;
use crate::worker::{Accepted, Direction, Shared, Ticket, Via, Workers};

/// Accepts until the drain says otherwise: inbound until `Draining`, outbound until `Forced` (the application may
/// need calls of its own to finish what is in flight). Must be called within a tokio runtime.
pub async fn serve(bound: Bound, workers: &Workers, shared: &Shared) -> io::Result<()> {
    let crowd = Arc::new(Crowd::new(shared.limits.clone()));
    let slots = Arc::new(Semaphore::new(shared.limits.application_connections_max));
    let counters = shared.telemetry.counters(&shared.limits);
    let mut loops = Vec::with_capacity(bound.sockets.len());
    for (via, listener) in bound.sockets {
        let listener = TcpListener::from_std(listener)?;
        let gate = Gate { shared, crowd: &crowd, slots: &slots, counters: &counters };
        let acceptor = Acceptor { listener, via, hands: workers.hands(), next: 0, gate };
        loops.push(acceptor.run());
    }
    join_all(loops).await;
    Ok(())
}

/// What all accept loops have in common.
#[derive(Clone, Copy)]
struct Gate<'a> {
    shared: &'a Shared,
    crowd: &'a Arc<Crowd>,
    /// For the application's connections.
    slots: &'a Arc<Semaphore>,
    counters: &'a Counters,
}

impl Gate<'_> {
    /// A place for a connection from outside, or nothing: then it is closed at once, and costs no handshake.
    fn admit(self, stream: &TcpStream, peer: SocketAddr, via: Via) -> Option<Ticket> {
        let settings = self.shared.settings.edge.as_ref();
        let (direction, known) = match via {
            Via::Edge(_) => {
                // The client is whom the load balancer will tell.
                (Direction::Edge, !settings.is_some_and(|edge| edge.expects_proxy_header(peer.ip())))
            }
            _ => (Direction::Inbound, true),
        };
        match self.crowd.enter(known.then_some(peer.ip())) {
            Ok(place) => Some(Ticket::Outside(place)),
            Err(why) => {
                reset(stream);
                self.crowd.say(why, peer.ip());
                self.counters.count(|shard| shard.refused(direction, why));
                None
            }
        }
    }
}

struct Acceptor<'a> {
    listener: TcpListener,
    via: Via,
    hands: Vec<mpsc::Sender<Accepted>>,
    next: usize,
    gate: Gate<'a>,
}

impl Acceptor<'_> {
    async fn run(mut self) {
        let mut drain = self.gate.shared.drain.clone();
        let until = match self.via {
            Via::Inbound(_) | Via::Edge(_) => Phase::Draining,
            Via::OutboundProxy | Via::OutboundPort(_) => Phase::Forced,
        };
        let accepting = async { while self.accept().await {} };
        tokio::select! {
            () = accepting => {}
            () = drain.reached(until) => {}
        }
    }

    /// Takes one connection. `false`: nothing will come any more.
    async fn accept(&mut self) -> bool {
        // The application's slot first: at its cap, connections wait in the kernel's backlog instead of in our memory.
        // Strangers are not kept waiting: that queue is one a good client would stand in too.
        let slot = match self.via {
            Via::Inbound(_) | Via::Edge(_) => None,
            Via::OutboundProxy | Via::OutboundPort(_) => {
                let Ok(slot) = self.gate.slots.clone().acquire_owned().await else { return false };
                Some(slot)
            }
        };
        match self.listener.accept().await {
            Ok((stream, peer)) => {
                let ticket = match slot {
                    Some(slot) => Some(Ticket::Application(slot)),
                    None => self.gate.admit(&stream, peer, self.via),
                };
                if let Some(ticket) = ticket {
                    self.hand_over(stream, peer, ticket).await;
                }
            }
            Err(error) if is_about_the_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept; trying again shortly");
                tokio::time::sleep(self.gate.shared.limits.accept_pause).await;
            }
        }
        true
    }

    async fn hand_over(&mut self, stream: TcpStream, peer: SocketAddr, ticket: Ticket) {
        let stream = match stream.into_std() {
            Ok(stream) => stream,
            Err(error) => return tracing::debug!(%error, "an accepted socket cannot be used"),
        };
        let accepted = Accepted { stream, peer, via: self.via, ticket };
        self.next = self.next.wrapping_add(1);
        let Some(index) = self.next.checked_rem(self.hands.len()) else { return };
        if let Some(hand) = self.hands.get(index)
            && hand.send(accepted).await.is_err()
        {
            tracing::debug!("a connection came after its worker ended");
        }
    }
}

/// Closes with a reset: an orderly end would leave us a socket in TIME_WAIT for each connection of a flood.
pub(super) fn reset(stream: &TcpStream) {
    if let Err(error) = SockRef::from(stream).set_linger(Some(Duration::ZERO)) {
        tracing::debug!(%error, "a connection is closed in order instead of reset");
    }
}

/// Errors of one connection that is already gone (accept(2)); the listener is well.
fn is_about_the_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}
