//! Requests under way by client address, against their cap.
//!
//! A request adds to an atomic number of its client, so that the cap is exact over all workers and no request waits for
//! another. The numbers are in a table whose parts have a lock each, taken when a client comes to hold its number and when it
//! lets go: once a connection where the peer is the client. Behind trusted proxies each request tells its client, and holds
//! for itself. A number is kept while anybody holds it: the table is no larger than connections and requests together.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::client_key::ClientKey;
use crate::settings::cap::Cap;
use crate::worker::Worker;

/// Locks; a client belongs to one.
const PARTS: usize = 64;

/// The numbers of all clients.
#[derive(Debug)]
pub struct ClientRequests {
    cap: Cap,
    /// Keyed by chance: nobody can choose addresses that meet in one part.
    hasher: RandomState,
    parts: [Mutex<Part>; PARTS],
}

type Part = HashMap<ClientKey, Arc<Count>>;

#[derive(Debug)]
struct Count {
    client: ClientKey,
    under_way: AtomicUsize,
}

impl ClientRequests {
    pub fn new(cap: Cap) -> Self {
        Self { cap, hasher: RandomState::new(), parts: std::array::from_fn(|_| Mutex::default()) }
    }

    fn hold(&self, client: ClientKey) -> Option<Arc<Count>> {
        if self.cap == Cap::Unlimited {
            return None;
        }
        let new = || Arc::new(Count { client, under_way: AtomicUsize::new(0) });
        Some(self.part(client)?.entry(client).or_insert_with(new).clone())
    }

    fn let_go(&self, count: Arc<Count>) {
        let client = count.client;
        let Some(mut part) = self.part(client) else { return };
        // Under the lock, by which alone one comes to hold it: with the table's own left, nobody has it.
        drop(count);
        if part.get(&client).is_some_and(|kept| Arc::strong_count(kept) == 1) {
            part.remove(&client);
        }
    }

    fn part(&self, client: ClientKey) -> Option<MutexGuard<'_, Part>> {
        let parts = u64::try_from(PARTS).ok()?;
        let index = usize::try_from(self.hasher.hash_one(client).checked_rem(parts)?).ok()?;
        Some(self.parts.get(index)?.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn enter(&self, count: &Count) -> bool {
        let more = |now| self.cap.has_room(now).then_some(now + 1);
        count.under_way.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }
}

/// What a worker's connection or request holds of its client's number.
#[derive(Debug)]
pub(crate) struct Holder {
    worker: Rc<Worker>,
    /// Taken out when it is dropped.
    count: Option<Arc<Count>>,
}

/// A request of a client under way, counted until it is dropped.
#[derive(Debug)]
pub(crate) struct ClientRequest(Rc<Holder>);

impl Holder {
    /// `None`: there is no cap, and nothing is counted.
    pub(crate) fn of(worker: &Rc<Worker>, client: IpAddr) -> Option<Rc<Self>> {
        let count = worker.shared.client_requests.hold(ClientKey::of(client))?;
        Some(Rc::new(Self { worker: worker.clone(), count: Some(count) }))
    }

    pub(crate) fn is_of(&self, client: IpAddr) -> bool {
        self.count.as_ref().is_some_and(|count| count.client == ClientKey::of(client))
    }

    /// `None`: the client has as many under way as it may.
    pub(crate) fn enter(self: &Rc<Self>) -> Option<ClientRequest> {
        let count = self.count.as_ref()?;
        self.worker.shared.client_requests.enter(count).then(|| ClientRequest(self.clone()))
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        if let Some(count) = self.count.take() {
            self.worker.shared.client_requests.let_go(count);
        }
    }
}

impl Drop for ClientRequest {
    fn drop(&mut self) {
        if let Some(count) = &self.0.count {
            count.under_way.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> ClientKey {
        ClientKey::of(text.parse().unwrap())
    }

    fn held(requests: &ClientRequests) -> usize {
        requests.parts.iter().map(|part| part.lock().unwrap().len()).sum()
    }

    #[test]
    fn all_connections_of_a_client_have_one_number_and_it_goes_with_the_last_of_them() {
        let requests = ClientRequests::new(Cap::AtMost(2));
        let first = requests.hold(key("2001:db8::1")).unwrap();
        let second = requests.hold(key("2001:db8::2")).unwrap();
        let other = requests.hold(key("2001:db8:0:1::1")).unwrap();
        assert!(requests.enter(&first) && requests.enter(&second));
        assert!(!requests.enter(&first) && !requests.enter(&second), "its subnet is one client");
        assert!(requests.enter(&other));
        requests.let_go(first);
        assert!(!requests.enter(&second), "what is under way stays counted");
        second.under_way.fetch_sub(1, Ordering::Relaxed);
        assert!(requests.enter(&second));
        requests.let_go(second);
        assert_eq!(held(&requests), 1);
        requests.let_go(other);
        assert_eq!(held(&requests), 0);
    }

    #[test]
    fn without_a_cap_nobody_is_counted() {
        let requests = ClientRequests::new(Cap::Unlimited);
        assert!(requests.hold(key("192.0.2.1")).is_none());
        assert_eq!(held(&requests), 0);
    }

    #[test]
    fn threads_together_get_exactly_as_many_as_the_cap_and_leave_nothing() {
        let requests = Arc::new(ClientRequests::new(Cap::AtMost(100)));
        let kept = requests.hold(key("192.0.2.1")).unwrap();
        let entered: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        (0..50)
                            .filter(|_| {
                                let count = requests.hold(key("192.0.2.1")).unwrap();
                                let entered = requests.enter(&count);
                                requests.let_go(count);
                                entered
                            })
                            .count()
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!((entered, kept.under_way.load(Ordering::Relaxed)), (100, 100));
        requests.let_go(kept);
        assert_eq!(held(&requests), 0);
    }
}
