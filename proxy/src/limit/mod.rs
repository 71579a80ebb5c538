//! How often: the state behind RateLimitPolicies, shared by all workers exactly.

mod even;
mod key;
pub mod mesh;
mod store;
mod window;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use governor::clock::{Clock, MonotonicClock};
use palisade_policy::kind::rate_limit_policy::Limit;

use even::Even;
use key::Keys;
pub use key::{Asked, Key};
use store::Store;
use window::{Log, Window};

/// What is left to somebody whose request passed a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Requests of cost 1 that would pass now.
    pub remaining: u32,
    /// Until some of what was taken comes back.
    pub back: Duration,
}

/// One limit's state, by key.
#[derive(Debug)]
enum Bucket<C: Clock> {
    /// Without `burst`: never more than the limit in any window.
    Window(Window, Box<Store<C, Log>>),
    /// With `burst`: spread evenly.
    Even(Even<C>),
}

type Buckets<C> = HashMap<Arc<str>, Arc<Bucket<C>>>;

/// The state of all limits. It survives pushes: a limit finds its state by its id.
#[derive(Debug)]
pub struct Limiter<C: Clock = MonotonicClock> {
    clock: C,
    keys: Keys,
    buckets: ArcSwap<Buckets<C>>,
    /// Held while `buckets` is replaced, so that two workers never make two states for one limit.
    making: Mutex<()>,
    /// Keys of all limits together.
    count: Arc<AtomicUsize>,
    keys_max: usize,
    turn: AtomicUsize,
}

impl Limiter {
    /// `keys_max`: how many keys of all limits together have state of their own.
    pub fn new(keys_max: usize) -> Self {
        Self::with_clock(keys_max, MonotonicClock)
    }
}

impl<C: Clock + Clone> Limiter<C> {
    /// The same on any clock.
    pub fn with_clock(keys_max: usize, clock: C) -> Self {
        Self {
            clock,
            keys: Keys::default(),
            buckets: ArcSwap::default(),
            making: Mutex::default(),
            count: Arc::default(),
            keys_max,
            turn: AtomicUsize::default(),
        }
    }

    /// Takes the cost of one request, or tells how long to wait until it can be had.
    pub fn take(&self, limit: &Limit, asked: &Asked<'_>) -> Result<Standing, Duration> {
        let key = self.keys.key(limit, asked);
        match &*self.bucket(limit) {
            Bucket::Window(window, store) => {
                store.change(&key, |log| window.take(log, store.now(), limit.cost.max(1)))
            }
            Bucket::Even(even) => even.take(&key, limit),
        }
    }

    /// Lets go of state that says no more than its absence would: a sixteenth at each call.
    pub fn tidy(&self) {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        for bucket in self.buckets.load().values() {
            bucket.tidy(turn);
        }
    }

    /// How many keys have state.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn bucket(&self, limit: &Limit) -> Arc<Bucket<C>> {
        if let Some(bucket) = self.buckets.load().get(&limit.id) {
            return bucket.clone();
        }
        let _one_at_a_time = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.buckets.load_full();
        if let Some(bucket) = known.get(&limit.id) {
            return bucket.clone();
        }
        // Limits that are gone from the policy leave when all of their quotas have recovered.
        let mut buckets: Buckets<C> = HashMap::clone(&known);
        buckets.retain(|_, bucket| !bucket.is_recovered());
        let bucket = Arc::new(self.make(limit));
        buckets.insert(limit.id.clone(), bucket.clone());
        self.buckets.store(Arc::new(buckets));
        bucket
    }

    fn make(&self, limit: &Limit) -> Bucket<C> {
        let (clock, count) = (self.clock.clone(), self.count.clone());
        match limit.burst {
            None => Bucket::Window(Window::new(limit), Box::new(Store::new(clock, count, self.keys_max))),
            Some(burst) => {
                let store = Store::new(clock.clone(), count, self.keys_max);
                Bucket::Even(Even::new(limit, burst, store, clock))
            }
        }
    }
}

impl<C: Clock> Bucket<C> {
    fn tidy(&self, turn: usize) {
        match self {
            Self::Window(_, store) => store.tidy(turn),
            Self::Even(even) => even.store.tidy(turn),
        }
    }

    fn is_recovered(&self) -> bool {
        match self {
            Self::Window(_, store) => store.is_recovered(),
            Self::Even(even) => even.store.is_recovered(),
        }
    }
}

/// Five hundred years fit.
fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
