//! How many requests the application beside us is given at once, where that is wanted: as many as it answers about as
//! fast as when nothing waits. What comes on top is turned away before it is asked, while its callers can still go elsewhere.
//!
//! A request has a place from when policy has let it in until the head of its answer. What follows is left out, and so are
//! slow uploads and what is not answered for long: streams last as long as their readers like, and would take all places
//! from the others.

mod gradient;
mod latencies;
mod metrics;
mod place;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use palisade_policy::kind::service_entry::Protocol;
use tokio::time::{Instant, MissedTickBehavior, interval};

use self::gradient::{Gradient, Seen, Turn};
use self::latencies::Latencies;
pub(crate) use self::metrics::metrics;
pub(crate) use self::place::Place;
use crate::error::ProxyError;
use crate::settings::{AdaptiveConcurrency, Serve, Settings};

/// How often limits are looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// So many answers say how long they take; so few must do when no more came within [`PATIENCE`].
const ENOUGH: u32 = 20;
const FEW: u32 = 5;
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two measurements, and up to so much more: sidecars of one service do not measure all at once.
const MEASURE_INTERVAL: Duration = Duration::from_secs(30);
const MEASURE_SPREAD: Duration = Duration::from_secs(5);

/// Those of all served ports; empty where the option is not given.
#[derive(Debug, Default)]
pub struct AdaptiveLimits(Vec<Arc<AdaptiveLimit>>);

/// The limit of one port. Shared by all workers, without locks.
#[derive(Debug)]
pub(crate) struct AdaptiveLimit {
    port: u16,
    bounds: AdaptiveConcurrency,
    limit: AtomicU32,
    under_way: AtomicU32,
    /// Counts limits: what was let in under an earlier one says nothing of this.
    epoch: AtomicU32,
    busy: AtomicBool,
    latencies: Latencies,
    /// Of those beside which no more was under way than the least limit.
    quiet: Latencies,
    /// Requests that came beside more than that.
    crowds: AtomicU32,
    /// Places that are given back at the next look but one.
    abandoned: AtomicU32,
    refused: AtomicU64,
    /// 0: not known yet.
    baseline_micros: AtomicU64,
    /// What takes longer is slow.
    well_micros: AtomicU64,
    measuring: AtomicBool,
}

impl AdaptiveLimits {
    pub(crate) fn new(settings: &Settings) -> Self {
        let limits = settings.adaptive_concurrency.iter().flat_map(|bounds| {
            let http = settings.serves.iter().filter(|serve| serve.protocol != Protocol::Tcp);
            http.map(|serve: &Serve| Arc::new(AdaptiveLimit::new(serve.port, *bounds)))
        });
        Self(limits.collect())
    }

    pub(crate) fn of(&self, port: u16) -> Option<Arc<AdaptiveLimit>> {
        self.0.iter().find(|limit| limit.port == port).cloned()
    }
}

impl AdaptiveLimit {
    fn new(port: u16, bounds: AdaptiveConcurrency) -> Self {
        Self {
            port,
            bounds,
            limit: AtomicU32::new(Gradient::beginning(bounds)),
            under_way: AtomicU32::new(0),
            epoch: AtomicU32::new(0),
            busy: AtomicBool::new(false),
            latencies: Latencies::default(),
            quiet: Latencies::default(),
            crowds: AtomicU32::new(0),
            abandoned: AtomicU32::new(0),
            refused: AtomicU64::new(0),
            baseline_micros: AtomicU64::new(0),
            well_micros: AtomicU64::new(u64::MAX),
            measuring: AtomicBool::new(false),
        }
    }

    /// A place for one request more.
    pub(crate) fn enter(self: &Arc<Self>) -> Result<Place, ProxyError> {
        let limit = self.limit.load(Relaxed);
        let before = self.under_way.fetch_add(1, Relaxed);
        if before >= limit {
            self.under_way.fetch_sub(1, Relaxed);
            self.refused.fetch_add(1, Relaxed);
            return Err(ProxyError::ConcurrencyLimit);
        }
        if before >= self.bounds.min {
            self.crowds.fetch_add(1, Relaxed);
        }
        if before >= limit / 2 && !self.busy.load(Relaxed) {
            self.busy.store(true, Relaxed);
        }
        Ok(Place::new(self.clone(), before))
    }

    fn baseline(&self) -> Duration {
        Duration::from_micros(self.baseline_micros.load(Relaxed))
    }

    fn well(&self) -> Duration {
        Duration::from_micros(self.well_micros.load(Relaxed))
    }

    fn set(&self, gradient: &Gradient) {
        self.limit.store(gradient.limit(), Relaxed);
        self.measuring.store(gradient.is_measuring(), Relaxed);
    }
}

/// Looks after the limits for as long as it is polled.
pub(crate) async fn keep(limits: &AdaptiveLimits) {
    if limits.0.is_empty() {
        return std::future::pending().await;
    }
    let between = MEASURE_INTERVAL + MEASURE_SPREAD.mul_f64(rand::random());
    let mut keepers: Vec<_> =
        limits.0.iter().map(|limit| Keeper::new(limit.clone(), between, Instant::now())).collect();
    let mut every = interval(LOOK_INTERVAL);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        let now = Instant::now();
        keepers.iter_mut().for_each(|keeper| keeper.look(now));
    }
}

/// Takes the counts of one limit to its rule, and back what becomes of it.
struct Keeper {
    limit: Arc<AdaptiveLimit>,
    gradient: Gradient,
    /// When the answers began that are counted.
    since: Instant,
    refused: u64,
    abandoned: u32,
    told: bool,
}

impl Keeper {
    fn new(limit: Arc<AdaptiveLimit>, between: Duration, now: Instant) -> Self {
        let gradient = Gradient::new(limit.bounds, between, now);
        limit.set(&gradient);
        Self { limit, gradient, since: now, refused: 0, abandoned: 0, told: false }
    }

    fn look(&mut self, now: Instant) {
        let limit = &self.limit;
        let count = limit.latencies.count();
        let enough = count >= ENOUGH || (count >= FEW && now >= self.since + PATIENCE);
        let quiet = limit.quiet.count() >= self.gradient.quiet_wanted(now);
        let refused = limit.refused.load(Relaxed);
        let seen = Seen {
            now: enough.then(|| limit.latencies.take()).flatten(),
            quiet: quiet.then(|| limit.quiet.take()).flatten(),
            busy: limit.busy.load(Relaxed),
            refused: refused > self.refused,
        };
        self.refused = refused;
        let turn = self.gradient.look(now, &seen);
        if seen.now.is_some() || turn != Turn::Nothing {
            self.since = now;
            self.limit.busy.store(false, Relaxed);
        }
        self.turned(turn);
        let micros = |length: Duration| u64::try_from(length.as_micros()).unwrap_or(u64::MAX);
        if let (Some(baseline), Some(well)) = (self.gradient.baseline(), self.gradient.well()) {
            self.limit.baseline_micros.store(micros(baseline).max(1), Relaxed);
            self.limit.well_micros.store(micros(well), Relaxed);
        }
        self.give_back();
        self.tell(seen.refused);
    }

    /// What callers left behind a look ago. An application works at that for a while, though nobody waits.
    fn give_back(&mut self) {
        self.limit.under_way.fetch_sub(self.abandoned, Relaxed);
        self.abandoned = self.limit.abandoned.swap(0, Relaxed);
    }

    fn turned(&self, turn: Turn) {
        if turn == Turn::Nothing {
            return;
        }
        let limit = &self.limit;
        limit.set(&self.gradient);
        limit.epoch.fetch_add(1, Relaxed);
        let _of_another_limit = limit.latencies.take();
        if turn == Turn::Measure {
            let _of_another_time = limit.quiet.take();
        }
        tracing::debug!(
            port = limit.port, limit = self.gradient.limit(), ?turn, baseline = ?self.gradient.baseline(),
            "another limit of requests at once"
        );
    }

    /// One line when refusing begins, and one when it is over.
    fn tell(&mut self, refused: bool) {
        let (port, limit) = (self.limit.port, self.gradient.limit());
        if refused && !self.told {
            let baseline = self.gradient.baseline();
            tracing::warn!(
                port,
                limit,
                ?baseline,
                "requests are turned away: the application has as many as it keeps up with"
            );
            self.told = true;
        } else if self.told && !refused && !self.gradient.is_shedding() {
            tracing::info!(port, limit, "no more requests are turned away");
            self.told = false;
        }
    }
}

#[cfg(test)]
mod tests;
