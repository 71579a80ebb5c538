//! Who calls the ports of a sidecar, with a certificate or in plaintext: what `palisade mtls readiness` is told.
//!
//! Plaintext is counted when it begins: a connection that lasts for days must be known of while it lasts.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

/// Counts of all workers since the start. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Calls(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    started: Instant,
    /// One per worker. A worker locks only its own, and nobody else does but a report.
    workers: Mutex<Vec<Arc<Mutex<Counts>>>>,
}

/// One worker's share.
#[derive(Debug)]
pub(crate) struct WorkerCalls {
    counts: Arc<Mutex<Counts>>,
    /// Addresses that are kept for each port.
    sources_max: usize,
}

#[derive(Debug, Default)]
struct Counts(BTreeMap<u16, Seen>);

/// What was seen at one port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Requests (connections of TCP ports) with a certificate.
    pub(crate) mutual_tls: u64,
    /// In plaintext, and let in by the mode.
    pub(crate) plaintext: u64,
    /// In plaintext, and not let in.
    pub(crate) refused: u64,
    /// The last one in plaintext.
    last: Option<Instant>,
    /// Connections in plaintext that are there now.
    open: u64,
    pub(crate) sources: BTreeMap<IpAddr, Source>,
    /// Not all addresses are among `sources`.
    pub(crate) more: bool,
}

/// An address that called in plaintext.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) calls: u64,
    last: Instant,
    open: u64,
}

/// A connection in plaintext, for as long as it is open.
#[derive(Debug)]
pub(crate) struct OpenPlaintext {
    counts: Arc<Mutex<Counts>>,
    port: u16,
    address: IpAddr,
    /// Whether there was room for its address.
    kept: bool,
}

impl Default for Calls {
    /// Counts from now on.
    fn default() -> Self {
        Self(Arc::new(Inner { started: Instant::now(), workers: Mutex::default() }))
    }
}

impl Calls {
    pub(crate) fn worker(&self, sources_max: usize) -> WorkerCalls {
        let counts = Arc::<Mutex<Counts>>::default();
        lock(&self.0.workers).push(counts.clone());
        WorkerCalls { counts, sources_max }
    }

    pub(crate) fn started(&self) -> Instant {
        self.0.started
    }

    /// The sum of all workers, by port.
    pub(crate) fn seen(&self) -> BTreeMap<u16, Seen> {
        let mut sum = BTreeMap::<u16, Seen>::new();
        for worker in lock(&self.0.workers).iter() {
            for (port, seen) in &lock(worker).0 {
                sum.entry(*port).or_default().add(seen);
            }
        }
        sum
    }
}

impl WorkerCalls {
    pub(crate) fn mutual_tls(&self, port: u16) {
        lock(&self.counts).0.entry(port).or_default().mutual_tls += 1;
    }

    /// A request or a connection in plaintext. `refused`: by the mode of the port.
    pub(crate) fn plaintext(&self, port: u16, address: IpAddr, refused: bool) {
        let mut counts = lock(&self.counts);
        let seen = counts.0.entry(port).or_default();
        *(if refused { &mut seen.refused } else { &mut seen.plaintext }) += 1;
        if let Some(source) = seen.touch(address, self.sources_max) {
            source.calls += 1;
        }
    }

    /// A connection in plaintext was let in.
    pub(crate) fn opened(&self, port: u16, address: IpAddr) -> OpenPlaintext {
        let mut counts = lock(&self.counts);
        let seen = counts.0.entry(port).or_default();
        seen.open += 1;
        let source = seen.touch(address, self.sources_max);
        let kept = source.map(|source| source.open += 1).is_some();
        OpenPlaintext { counts: self.counts.clone(), port, address, kept }
    }
}

impl Drop for OpenPlaintext {
    fn drop(&mut self) {
        let mut counts = lock(&self.counts);
        let Some(seen) = counts.0.get_mut(&self.port) else { return };
        let now = Instant::now();
        seen.open = seen.open.saturating_sub(1);
        seen.last = Some(now);
        if let Some(source) = seen.sources.get_mut(&self.address.to_canonical()).filter(|_| self.kept) {
            source.open = source.open.saturating_sub(1);
            source.last = now;
        }
    }
}

impl Seen {
    /// When there was plaintext for the last time: now, while a connection is open.
    pub(crate) fn last_plaintext(&self, now: Instant) -> Option<Instant> {
        if self.open > 0 { Some(now) } else { self.last }
    }

    /// Notes that `address` is there, in the place of the one that was longest away where there are too many. `None`: all
    /// others are there, too.
    fn touch(&mut self, address: IpAddr, sources_max: usize) -> Option<&mut Source> {
        let (address, now) = (address.to_canonical(), Instant::now());
        self.last = Some(now);
        if self.sources.len() >= sources_max && !self.sources.contains_key(&address) {
            self.more = true;
            let away = self.sources.iter().filter(|(_, source)| source.open == 0);
            let longest = away.min_by_key(|(_, source)| source.last).map(|(address, _)| *address)?;
            self.sources.remove(&longest);
        }
        let source = self.sources.entry(address).or_insert(Source { calls: 0, last: now, open: 0 });
        source.last = now;
        Some(source)
    }

    fn add(&mut self, other: &Self) {
        self.mutual_tls += other.mutual_tls;
        self.plaintext += other.plaintext;
        self.refused += other.refused;
        self.last = self.last.max(other.last);
        self.open += other.open;
        self.more |= other.more;
        for (address, theirs) in &other.sources {
            let mine = self.sources.entry(*address).or_insert(Source { calls: 0, open: 0, ..*theirs });
            mine.calls += theirs.calls;
            mine.open += theirs.open;
            mine.last = mine.last.max(theirs.last);
        }
    }
}

impl Source {
    /// When it was there for the last time: now, while it has a connection.
    pub(crate) fn last(&self, now: Instant) -> Instant {
        if self.open > 0 { now } else { self.last }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::advance;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[tokio::test(start_paused = true)]
    async fn sums_up_what_all_workers_saw_by_port() {
        let calls = Calls::default();
        let (one, other) = (calls.worker(8), calls.worker(8));
        one.mutual_tls(80);
        other.mutual_tls(80);
        other.mutual_tls(81);
        one.plaintext(80, address(1), false);
        advance(SECOND).await;
        other.plaintext(80, address(1), true);
        // The same host, as a socket of both families names it.
        other.plaintext(80, "::ffff:10.0.0.1".parse().unwrap(), false);
        let seen = calls.seen();
        let port = &seen[&80];
        assert_eq!((port.mutual_tls, port.plaintext, port.refused), (2, 2, 1));
        assert_eq!((port.sources.len(), port.sources[&address(1)].calls), (1, 3));
        assert_eq!(port.last_plaintext(Instant::now()), Some(calls.started() + SECOND));
        assert_eq!((seen[&81].mutual_tls, seen[&81].last_plaintext(Instant::now())), (1, None));
    }

    #[tokio::test(start_paused = true)]
    async fn of_many_addresses_those_seen_last_are_kept() {
        let calls = Calls::default();
        let worker = calls.worker(2);
        for last in [1, 2, 1, 3] {
            worker.plaintext(80, address(last), false);
            advance(SECOND).await;
        }
        let seen = calls.seen().remove(&80).unwrap();
        assert_eq!(seen.sources.keys().copied().collect::<Vec<_>>(), [address(1), address(3)]);
        assert!(seen.more);
        assert_eq!(seen.plaintext, 4, "what has no place is counted all the same");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_stays_is_plaintext_until_it_ends() {
        let calls = Calls::default();
        let worker = calls.worker(1);
        let connection = worker.opened(80, address(1));
        advance(SECOND * 3600).await;
        let now = Instant::now();
        let seen = calls.seen().remove(&80).unwrap();
        assert_eq!((seen.last_plaintext(now), seen.sources[&address(1)].last(now)), (Some(now), now));
        // Who is there gives no place up, and an address without one takes nothing from it when it goes.
        drop(worker.opened(80, address(2)));
        let seen = calls.seen().remove(&80).unwrap();
        assert!(seen.more && seen.sources.contains_key(&address(1)), "{seen:?}");
        drop(connection);
        advance(SECOND).await;
        let seen = calls.seen().remove(&80).unwrap();
        assert_eq!((seen.last_plaintext(Instant::now()), seen.open), (Some(now), 0));
        assert_eq!(seen.sources[&address(1)].last(Instant::now()), now);
    }
}
