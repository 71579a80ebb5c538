//! Who is connected from outside: counts by client address and in all, against their caps.
//!
//! One for all workers, so that a cap is exact. Locked when a connection comes, finishes its handshake and goes, never for
//! a request. An address is kept while it has a connection: the map is no larger than the cap on connections.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::client_key::ClientKey;
use crate::settings::limits::Limits;

/// At most one line a reason within this time: a flood must not become one of the log.
const QUIET: Duration = Duration::from_secs(10);

/// Which cap a connection came on top of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Crowded {
    Connections,
    Handshakes,
    AddressConnections,
    AddressHandshakes,
}

impl Crowded {
    /// In metrics and logs.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Handshakes => "handshakes",
            Self::AddressConnections => "address_connections",
            Self::AddressHandshakes => "address_handshakes",
        }
    }
}

/// Everybody who is connected from outside.
#[derive(Debug)]
pub(crate) struct Crowd {
    limits: Arc<Limits>,
    counted: Mutex<Counted>,
}

#[derive(Debug, Default)]
struct Counted {
    all: Counts,
    by_client: HashMap<ClientKey, Counts>,
    said: HashMap<Crowded, Said>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    connections: usize,
    /// Of these, with an unfinished handshake.
    handshakes: usize,
}

/// When a line was last written, and how many were not since.
#[derive(Debug)]
struct Said {
    at: Instant,
    unsaid: u64,
}

/// A connection's place, counted until it is dropped. New ones are in their handshake.
#[derive(Debug)]
pub(crate) struct Place {
    crowd: Arc<Crowd>,
    client: Option<ClientKey>,
    opened: bool,
}

impl Crowd {
    pub(crate) fn new(limits: Arc<Limits>) -> Self {
        Self { limits, counted: Mutex::default() }
    }

    /// Lets one more in. `None`: a load balancer whose client is not known yet, counted in all only.
    pub(crate) fn enter(self: &Arc<Self>, client: Option<IpAddr>) -> Result<Place, Crowded> {
        let client = client.map(ClientKey::of);
        let mut counted = self.counted();
        if let Some(client) = client {
            counted.add(client, true, &self.limits)?;
        }
        let all = counted.all;
        let full = if all.connections >= self.limits.connections_max {
            Some(Crowded::Connections)
        } else {
            (all.handshakes >= self.limits.handshakes_max).then_some(Crowded::Handshakes)
        };
        if let Some(full) = full {
            if let Some(client) = client {
                counted.remove(client, true);
            }
            return Err(full);
        }
        counted.all = Counts { connections: all.connections + 1, handshakes: all.handshakes + 1 };
        Ok(Place { crowd: self.clone(), client, opened: false })
    }

    /// Says in the log that connections are refused; rarely.
    pub(crate) fn say(&self, why: Crowded, peer: IpAddr) {
        let now = Instant::now();
        let mut counted = self.counted();
        let unsaid = match counted.said.get_mut(&why) {
            Some(said) if now.saturating_duration_since(said.at) < QUIET => {
                said.unsaid += 1;
                return;
            }
            said => said.map_or(0, |said| said.unsaid),
        };
        counted.said.insert(why, Said { at: now, unsaid: 0 });
        drop(counted);
        tracing::warn!(peer.addr = %peer, reason = why.reason(), unsaid, "too many connections: closed at once");
    }

    fn counted(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counted {
    fn add(&mut self, client: ClientKey, handshake: bool, limits: &Limits) -> Result<(), Crowded> {
        let now = self.by_client.get(&client).copied().unwrap_or_default();
        if !limits.connections_per_address.has_room(now.connections) {
            return Err(Crowded::AddressConnections);
        }
        if handshake && !limits.handshakes_per_address.has_room(now.handshakes) {
            return Err(Crowded::AddressHandshakes);
        }
        let handshakes = now.handshakes + usize::from(handshake);
        self.by_client.insert(client, Counts { connections: now.connections + 1, handshakes });
        Ok(())
    }

    fn remove(&mut self, client: ClientKey, handshake: bool) {
        let Some(counts) = self.by_client.get_mut(&client) else { return };
        counts.connections = counts.connections.saturating_sub(1);
        counts.handshakes = counts.handshakes.saturating_sub(usize::from(handshake));
        if counts.connections == 0 {
            self.by_client.remove(&client);
        }
    }
}

impl Place {
    /// A load balancer has told whose connection it is.
    pub(crate) fn told(&mut self, client: IpAddr) -> Result<(), Crowded> {
        let key = ClientKey::of(client);
        let added = self.crowd.counted().add(key, !self.opened, &self.crowd.limits);
        match added {
            Ok(()) => self.client = Some(key),
            Err(why) => self.crowd.say(why, client),
        }
        added
    }

    /// The handshake is done.
    pub(crate) fn opened(&mut self) {
        if self.opened {
            return;
        }
        self.opened = true;
        let mut counted = self.crowd.counted();
        counted.all.handshakes = counted.all.handshakes.saturating_sub(1);
        if let Some(counts) = self.client.and_then(|client| counted.by_client.get_mut(&client)) {
            counts.handshakes = counts.handshakes.saturating_sub(1);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counted = self.crowd.counted();
        counted.all.connections = counted.all.connections.saturating_sub(1);
        counted.all.handshakes = counted.all.handshakes.saturating_sub(usize::from(!self.opened));
        if let Some(client) = self.client {
            counted.remove(client, !self.opened);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::cap::Cap;

    fn crowd() -> Arc<Crowd> {
        let limits = Limits {
            connections_max: 5,
            handshakes_max: 4,
            connections_per_address: Cap::AtMost(3),
            handshakes_per_address: Cap::AtMost(2),
            ..Limits::default()
        };
        Arc::new(Crowd::new(Arc::new(limits)))
    }

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn each_cap_holds_and_gives_back_what_ends() {
        let crowd = crowd();
        let mut first = crowd.enter(ip("192.0.2.1")).unwrap();
        let mut second = crowd.enter(ip("192.0.2.1")).unwrap();
        assert_eq!(crowd.enter(ip("::ffff:192.0.2.1")).unwrap_err(), Crowded::AddressHandshakes);
        first.opened();
        second.opened();
        second.opened();
        let third = crowd.enter(ip("192.0.2.1")).unwrap();
        assert_eq!(crowd.enter(ip("192.0.2.1")).unwrap_err(), Crowded::AddressConnections);
        drop(first);
        let fourth = crowd.enter(ip("192.0.2.1")).unwrap();
        assert_eq!(crowd.enter(ip("192.0.2.1")).unwrap_err(), Crowded::AddressConnections);

        // Of other addresses, up to the caps in all.
        let mut others = vec![crowd.enter(ip("192.0.2.2")).unwrap(), crowd.enter(ip("2001:db8::1")).unwrap()];
        assert_eq!(crowd.enter(ip("192.0.2.9")).unwrap_err(), Crowded::Connections);
        drop(second);
        assert_eq!(crowd.enter(ip("192.0.2.9")).unwrap_err(), Crowded::Handshakes);
        others.iter_mut().for_each(Place::opened);
        others.push(crowd.enter(ip("192.0.2.9")).unwrap());
        drop((third, fourth, others));
        let counted = crowd.counted();
        assert!(counted.by_client.is_empty());
        assert_eq!((counted.all.connections, counted.all.handshakes), (0, 0));
    }

    #[test]
    fn a_load_balancer_counts_as_nobody_and_then_as_whom_it_tells() {
        let crowd = crowd();
        let mut behind: Vec<Place> = (0..4).map(|_| crowd.enter(None).unwrap()).collect();
        let client = "192.0.2.1".parse().unwrap();
        let told: Vec<_> = behind.iter_mut().map(|place| place.told(client)).collect();
        let full = Err(Crowded::AddressHandshakes);
        assert_eq!(told, [Ok(()), Ok(()), full, full]);
        drop(behind);
        assert!(crowd.counted().by_client.is_empty());
        assert_eq!(crowd.counted().all.handshakes, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_log_is_told_rarely() {
        let crowd = crowd();
        let peer = "192.0.2.1".parse().unwrap();
        for _ in 0..3 {
            crowd.say(Crowded::Connections, peer);
        }
        assert_eq!(crowd.counted().said[&Crowded::Connections].unsaid, 2);
        tokio::time::advance(QUIET).await;
        crowd.say(Crowded::Connections, peer);
        assert_eq!(crowd.counted().said[&Crowded::Connections].unsaid, 0);
    }
}
