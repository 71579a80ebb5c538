//! How often: the state behind RateLimitPolicies, shared by all workers exactly.

mod key;
mod store;

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use governor::clock::{Clock, MonotonicClock};
use governor::middleware::NoOpMiddleware;
use governor::{Quota, RateLimiter};
use palisade_policy::kind::rate_limit_policy::Limit;

use key::Keys;
pub use key::{Asked, Key};
use store::{Handle, Store};

/// The arithmetic of one limit over its state.
type Rates<C> = RateLimiter<Key, Handle<C>, C, NoOpMiddleware<<C as Clock>::Instant>>;
/// One limit's state, by key.
#[derive(Debug)]
struct Bucket<C: Clock> {
    rates: Rates<C>,
    store: Arc<Store<C>>,
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
    fn with_clock(keys_max: usize, clock: C) -> Self {
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
    pub fn take(&self, limit: &Limit, asked: &Asked<'_>) -> Result<(), Duration> {
        // The ranges of a limit leave no zeros.
        let cost = NonZeroU32::new(limit.cost).unwrap_or(NonZeroU32::MIN);
        let key = self.keys.key(limit, asked);
        match self.bucket(limit).rates.check_key_n(&key, cost) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(not_until)) => Err(not_until.wait_time_from(self.clock.now())),
            // A cost above the burst, which policy refuses: such a request can never pass.
            Err(_never) => Err(limit.window),
        }
    }

    /// Lets go of state that says no more than its absence would: a sixteenth at each call.
    pub fn tidy(&self) {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        for bucket in self.buckets.load().values() {
            bucket.store.tidy(turn);
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
        buckets.retain(|_, bucket| !bucket.store.is_recovered());
        let store = Arc::new(Store::new(self.clock.clone(), self.count.clone(), self.keys_max));
        let rates = RateLimiter::new(quota(limit), Handle(store.clone()), self.clock.clone());
        let bucket = Arc::new(Bucket { rates, store });
        buckets.insert(limit.id.clone(), bucket.clone());
        self.buckets.store(Arc::new(buckets));
        bucket
    }
}

/// `limit` requests a window, spread evenly, of which `burst` may come at once.
fn quota(limit: &Limit) -> Quota {
    let period = limit.window / limit.limit.max(1);
    let burst = NonZeroU32::new(limit.burst).unwrap_or(NonZeroU32::MIN);
    // A period of zero cannot be: a window is a second or more, a limit a billion or less.
    Quota::with_period(period).unwrap_or_else(|| Quota::per_hour(NonZeroU32::MIN)).allow_burst(burst)
}

#[cfg(test)]
mod tests;
