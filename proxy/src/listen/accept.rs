//! Accept loops: they only accept. Handshakes happen in the workers.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::future::join_all;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};

use super::Bound;
use crate::drain::{Drain, Phase};
use crate::settings::limits::Limits;
use crate::worker::{Accepted, Via, Workers};

/// Accepts until the drain says otherwise: inbound until `Draining`, outbound until `Forced` (the application may
/// need calls of its own to finish what is in flight). Must be called within a tokio runtime.
pub async fn serve(bound: Bound, workers: &Workers, limits: &Limits, drain: &Drain) -> io::Result<()> {
    let slots = Arc::new(Semaphore::new(limits.connections_max));
    let mut loops = Vec::with_capacity(bound.sockets.len());
    for (via, listener) in bound.sockets {
        let acceptor = Acceptor {
            listener: TcpListener::from_std(listener)?,
            via,
            hands: workers.hands(),
            next: 0,
            slots: slots.clone(),
        };
        loops.push(acceptor.run(limits, drain.clone()));
    }
    join_all(loops).await;
    Ok(())
}

struct Acceptor {
    listener: TcpListener,
    via: Via,
    hands: Vec<mpsc::Sender<Accepted>>,
    next: usize,
    slots: Arc<Semaphore>,
}

impl Acceptor {
    async fn run(mut self, limits: &Limits, mut drain: Drain) {
        let until = match self.via {
            Via::Inbound(_) | Via::Edge(_) => Phase::Draining,
            Via::OutboundProxy | Via::OutboundPort(_) => Phase::Forced,
        };
        let accepting = async {
            loop {
                // The slot first: at the cap, connections wait in the kernel's backlog instead of in our memory.
                let Ok(slot) = self.slots.clone().acquire_owned().await else { return };
                match self.listener.accept().await {
                    Ok((stream, peer)) => self.hand_over(stream, peer, slot).await,
                    Err(error) if is_about_the_connection(&error) => {}
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept; trying again shortly");
                        tokio::time::sleep(limits.accept_pause).await;
                    }
                }
            }
        };
        tokio::select! {
            () = accepting => {}
            () = drain.reached(until) => {}
        }
    }

    async fn hand_over(
        &mut self,
        stream: TcpStream,
        peer: SocketAddr,
        slot: tokio::sync::OwnedSemaphorePermit,
    ) {
        let stream = match stream.into_std() {
            Ok(stream) => stream,
            Err(error) => return tracing::debug!(%error, "an accepted socket cannot be used"),
        };
        let accepted = Accepted { stream, peer, via: self.via, slot };
        self.next = self.next.wrapping_add(1);
        let Some(index) = self.next.checked_rem(self.hands.len()) else { return };
        if let Some(hand) = self.hands.get(index)
            && hand.send(accepted).await.is_err()
        {
            tracing::debug!("a connection came after its worker ended");
        }
    }
}

/// Errors of one connection that is already gone (accept(2)); the listener is well.
fn is_about_the_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}
