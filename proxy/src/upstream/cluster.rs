//! What all workers know of a destination's endpoints together: how much is under way, and who is left out. It lives beside
//! the snapshots under the cluster's name, so that a push forgets nothing.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use palisade_policy::compile::Destination;
use palisade_policy::traffic::{OutlierDetection, PoolBounds, Traffic};
use tokio::time::{Instant, MissedTickBehavior};

use super::ejection::{eject, look, panics};
use super::endpoint::{Cause, Endpoint, Seen};

/// How often endpoints are looked at that nobody asks.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The clusters of this proxy.
#[derive(Debug)]
pub struct Upstreams {
    start: Instant,
    clusters: Mutex<BTreeMap<Arc<str>, Arc<Cluster>>>,
}

impl Default for Upstreams {
    fn default() -> Self {
        Self { start: Instant::now(), clusters: Mutex::default() }
    }
}

impl Upstreams {
    /// The cluster of a destination, told what holds for it now. Locks: asked for once per worker and push.
    pub(crate) fn cluster(&self, destination: &Destination) -> Arc<Cluster> {
        let mut clusters = lock(&self.clusters);
        let cluster = clusters
            .entry(destination.cluster.clone())
            .or_insert_with(|| Arc::new(Cluster::new(destination.cluster.clone(), self.start)));
        cluster.traffic.store(destination.traffic.clone());
        cluster.clone()
    }

    /// Looks after all clusters; returns never.
    pub async fn keep(&self) {
        let mut every = tokio::time::interval(LOOK_INTERVAL);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            for cluster in self.all() {
                cluster.look();
            }
            // Nobody but this list knows it any more.
            lock(&self.clusters).retain(|_, cluster| Arc::strong_count(cluster) > 1);
        }
    }

    pub(crate) fn all(&self) -> Vec<Arc<Cluster>> {
        lock(&self.clusters).values().cloned().collect()
    }
}

/// A bound that was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    Connections,
    Pending,
    Requests,
    /// Not refused: an answer is passed on that would have been tried again.
    Retries,
}

impl Overflow {
    pub(crate) const ALL: [Self; 4] = [Self::Connections, Self::Pending, Self::Requests, Self::Retries];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Pending => "pending",
            Self::Requests => "requests",
            Self::Retries => "retries",
        }
    }
}

/// One port of one service (or of one of its subsets).
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) name: Arc<str>,
    start: Instant,
    pub(crate) traffic: ArcSwap<Traffic>,
    known: Mutex<HashMap<SocketAddr, Weak<Endpoint>>>,
    /// Some endpoint is left out or avoided, at least until then; 0: none.
    trouble_until: AtomicU64,
    looked: AtomicU64,
    /// As it was told last.
    panicked: AtomicBool,
    pub(crate) requests: AtomicU32,
    pub(crate) pending: AtomicU32,
    pub(crate) connections: AtomicU32,
    pub(crate) retries: AtomicU32,
    pub(crate) retried: AtomicU64,
    pub(crate) overflown: [AtomicU64; 4],
    pub(crate) ejections: [AtomicU64; 4],
}

/// A place among what is under way; given back when dropped.
#[derive(Debug)]
pub(crate) struct Held {
    cluster: Arc<Cluster>,
    of: fn(&Cluster) -> &AtomicU32,
}

impl Drop for Held {
    fn drop(&mut self) {
        (self.of)(&self.cluster).fetch_sub(1, Relaxed);
    }
}

impl Cluster {
    fn new(name: Arc<str>, start: Instant) -> Self {
        Self {
            name,
            start,
            traffic: ArcSwap::default(),
            known: Mutex::default(),
            trouble_until: AtomicU64::default(),
            looked: AtomicU64::default(),
            panicked: AtomicBool::default(),
            requests: AtomicU32::default(),
            pending: AtomicU32::default(),
            connections: AtomicU32::default(),
            retries: AtomicU32::default(),
            retried: AtomicU64::default(),
            overflown: Default::default(),
            ejections: Default::default(),
        }
    }

    /// Milliseconds since the proxy's start.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The endpoints of these addresses; those that any worker knows stay what they are.
    pub(super) fn endpoints(&self, addresses: &[SocketAddr]) -> Vec<Arc<Endpoint>> {
        let now = self.now();
        let mut known = lock(&self.known);
        known.retain(|_, endpoint| endpoint.strong_count() > 0);
        let each = addresses.iter().map(|address| {
            if let Some(endpoint) = known.get(address).and_then(Weak::upgrade) {
                return endpoint;
            }
            let endpoint = Arc::new(Endpoint::new(*address, now));
            known.insert(*address, Arc::downgrade(&endpoint));
            endpoint
        });
        each.collect()
    }

    /// All that any worker knows, by address.
    pub(crate) fn all(&self) -> Vec<Arc<Endpoint>> {
        let mut all: Vec<_> = lock(&self.known).values().filter_map(Weak::upgrade).collect();
        all.sort_by_key(|endpoint| endpoint.address);
        all
    }

    /// Whether too few endpoints are left to leave any out.
    pub(crate) fn panics(&self) -> bool {
        let (all, now) = (self.all(), self.now());
        let out = all.iter().filter(|endpoint| endpoint.out(now).is_some()).count();
        self.traffic.load().outliers.as_ref().is_some_and(|rules| panics(all.len(), out, rules))
    }

    /// The time, where any endpoint may be left out or avoided.
    pub(super) fn troubled(&self) -> Option<u64> {
        (self.trouble_until.load(Relaxed) != 0).then(|| self.now())
    }

    /// It is tried last for a while.
    pub(crate) fn avoid(&self, endpoint: &Endpoint, penalty: Duration, cause: &dyn Display) {
        let now = self.now();
        let until = now.saturating_add(u64::try_from(penalty.as_millis()).unwrap_or(u64::MAX));
        endpoint.avoided_until.store(until, Relaxed);
        self.trouble_until.fetch_max(until, Relaxed);
        tracing::debug!(cluster = %self.name, endpoint = %endpoint.address, %cause, "an endpoint is tried last");
    }

    /// An attempt at this endpoint ended so. Its state changes by this alone, and each change is told with its cause.
    pub(crate) fn saw(&self, endpoint: &Endpoint, seen: Seen) {
        let traffic = self.traffic.load();
        let Some(rules) = &traffic.outliers else { return };
        if let Some(cause) = endpoint.saw(seen, rules) {
            self.leave_out(endpoint, cause, &traffic);
        }
    }

    fn leave_out(&self, endpoint: &Endpoint, cause: Cause, traffic: &Traffic) {
        let Some(rules) = &traffic.outliers else { return };
        let (all, now) = (self.all(), self.now());
        self.tell_back(endpoint, now);
        let Ok(time) = eject(endpoint, cause, &all, rules, now) else { return };
        self.trouble_until.fetch_max(endpoint.out_until.load(Relaxed), Relaxed);
        if let Some(count) = self.ejections.get(index(cause)) {
            count.fetch_add(1, Relaxed);
        }
        let out = all.iter().filter(|other| other.out(now).is_some()).count();
        tracing::warn!(
            cluster = %self.name,
            endpoint = %endpoint.address,
            cause = cause.name(),
            seconds = time.as_secs_f64(),
            out,
            of = all.len(),
            panic = panics(all.len(), out, rules),
            "an endpoint is left out",
        );
        self.tell_panic(&all, now, Some(rules));
    }

    fn tell_back(&self, endpoint: &Endpoint, now: u64) {
        if let Some(cause) = endpoint.back(now) {
            let cause = cause.name();
            tracing::info!(cluster = %self.name, endpoint = %endpoint.address, cause, "an endpoint is back");
        }
    }

    /// Once when it begins, and once when it ends.
    fn tell_panic(&self, all: &[Arc<Endpoint>], now: u64, rules: Option<&OutlierDetection>) {
        let (of, out) = (all.len(), all.iter().filter(|endpoint| endpoint.out(now).is_some()).count());
        let min_health_percent = rules.map(|rules| rules.min_health_percent);
        let panics = rules.is_some_and(|rules| panics(of, out, rules));
        match (self.panicked.swap(panics, Relaxed), panics) {
            (false, true) => tracing::warn!(
                cluster = %self.name, out, of, min_health_percent,
                "panic begins: too few endpoints are left, all are asked",
            ),
            (true, false) => tracing::info!(
                cluster = %self.name, out, of, min_health_percent,
                "panic ends: who is left out is not asked",
            ),
            _ => {}
        }
    }

    /// Once a second: success rates, and who is back.
    pub(crate) fn look(&self) {
        let (all, now) = (self.all(), self.now());
        let last = self.looked.load(Relaxed);
        all.iter().for_each(|endpoint| endpoint.forget());
        for endpoint in &all {
            self.tell_back(endpoint, now);
        }
        self.looked.store(now, Relaxed);
        let traffic = self.traffic.load();
        self.tell_panic(&all, now, traffic.outliers.as_ref());
        if let Some(rules) = &traffic.outliers {
            let every = u64::try_from(rules.interval.as_millis()).unwrap_or(u64::MAX).max(1);
            if now / every != last / every {
                for endpoint in look(&all, rules, now) {
                    self.leave_out(&endpoint, Cause::SuccessRate, &traffic);
                }
            }
        }
        let trouble = self.trouble_until.load(Relaxed);
        if trouble != 0 && trouble <= now {
            // Whoever comes in trouble meanwhile has a later end, and stays noted.
            let _changed = self.trouble_until.compare_exchange(trouble, 0, Relaxed, Relaxed);
        }
    }

    pub(crate) fn enter_request(self: &Arc<Self>, bounds: &PoolBounds) -> Result<Held, Overflow> {
        self.take(|cluster| &cluster.requests, bounds.max_requests, Overflow::Requests)
    }

    pub(super) fn enter_pending(self: &Arc<Self>, bounds: &PoolBounds) -> Result<Held, Overflow> {
        self.take(|cluster| &cluster.pending, bounds.max_pending, Overflow::Pending)
    }

    /// `only`: this worker has no connection to that endpoint yet. It may have one in any case: it cannot use the others'.
    pub(super) fn enter_connection(
        self: &Arc<Self>,
        bounds: &PoolBounds,
        only: bool,
    ) -> Result<Held, Overflow> {
        let max = if only { u32::MAX } else { bounds.max_connections };
        self.take(|cluster| &cluster.connections, max, Overflow::Connections)
    }

    /// Leave for one more attempt of a request that is under way, within the budget.
    pub(crate) fn enter_retry(self: &Arc<Self>) -> Result<Held, Overflow> {
        let traffic = self.traffic.load();
        let budget = traffic.retry_budget;
        let under_way = u64::from(self.requests.load(Relaxed));
        let share = under_way.saturating_mul(u64::from(budget.millipercent)) / 100_000;
        let share = u32::try_from(share).unwrap_or(u32::MAX).max(budget.min_concurrency);
        let max = traffic.pool.max_retries.map_or(share, |max| max.min(share));
        let held = self.take(|cluster| &cluster.retries, max, Overflow::Retries)?;
        self.retried.fetch_add(1, Relaxed);
        Ok(held)
    }

    /// Counts a request that is sent again without a place: nobody has had work with it yet.
    pub(crate) fn retry_freely(&self) -> Option<Held> {
        self.retried.fetch_add(1, Relaxed);
        None
    }

    fn take(
        self: &Arc<Self>,
        of: fn(&Self) -> &AtomicU32,
        max: u32,
        overflow: Overflow,
    ) -> Result<Held, Overflow> {
        if of(self).fetch_add(1, Relaxed) >= max {
            of(self).fetch_sub(1, Relaxed);
            if let Some(count) = Overflow::ALL.iter().position(|o| *o == overflow) {
                self.overflown.get(count).into_iter().for_each(|count| {
                    count.fetch_add(1, Relaxed);
                });
            }
            return Err(overflow);
        }
        Ok(Held { cluster: self.clone(), of })
    }
}

/// What is guarded is whole between any two statements: a thread that died leaves nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn index(cause: Cause) -> usize {
    match cause {
        Cause::Consecutive5xx => 0,
        Cause::ConsecutiveGateway => 1,
        Cause::ConsecutiveLocal => 2,
        Cause::SuccessRate => 3,
    }
}

impl Cause {
    /// In the order of `Cluster::ejections`.
    pub(crate) const ALL: [Self; 4] =
        [Self::Consecutive5xx, Self::ConsecutiveGateway, Self::ConsecutiveLocal, Self::SuccessRate];
}

/// One attempt at one endpoint, under way until this is dropped.
#[derive(Debug)]
pub(crate) struct Visit {
    cluster: Arc<Cluster>,
    pub(crate) endpoint: Arc<Endpoint>,
    told: Cell<bool>,
    /// What was done to it on purpose may be to blame.
    muted: Cell<bool>,
}

impl Visit {
    pub(crate) fn at(cluster: &Arc<Cluster>, endpoint: &Arc<Endpoint>) -> Self {
        endpoint.enter();
        Self {
            cluster: cluster.clone(),
            endpoint: endpoint.clone(),
            told: Cell::default(),
            muted: Cell::default(),
        }
    }

    /// Has its endpoint tried last for a while.
    pub(crate) fn avoid(&self, penalty: Duration, cause: &dyn Display) {
        self.cluster.avoid(&self.endpoint, penalty, cause);
    }

    /// Whether what this try says of its endpoint was noted.
    pub(crate) fn is_told(&self) -> bool {
        self.told.get()
    }

    /// It says nothing.
    pub(crate) fn ignore(&self) {
        self.told.set(true);
    }

    /// From now on nothing that is seen says anything, or all of it does again.
    pub(crate) fn mute(&self, muted: bool) {
        self.muted.set(muted);
    }

    pub(crate) fn saw(&self, seen: Seen) {
        self.told.set(true);
        if !self.muted.get() {
            self.cluster.saw(&self.endpoint, seen);
        }
    }

    /// The head of its answer came after this time.
    pub(crate) fn took(&self, time: Duration) {
        if !self.muted.get() {
            self.endpoint.took(time);
        }
    }

    /// It has too much to do. That was said faster than any answer comes, and must not draw more requests there.
    pub(crate) fn turned_away(&self) {
        if !self.muted.get() {
            self.endpoint.turned_away();
        }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.endpoint.leave();
    }
}

#[cfg(test)]
mod tests;
