//! The token bucket of limits with a burst: governor's GCRA over a store of ours.

use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::StateInformationMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::{Quota, RateLimiter};
use palisade_policy::kind::rate_limit_policy::Limit;

use super::Standing;
use super::key::Key;
use super::store::{State, Store};

/// When the quota of a key will have recovered, in nanoseconds; GCRA needs nothing else.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Arrival(Option<NonZeroU64>);

impl State for Arrival {
    fn recovered_at(&self) -> u64 {
        self.0.map_or(0, NonZeroU64::get)
    }
}

/// governor's arithmetic over a store of ours.
type Rates<C> = RateLimiter<Key, Handle<C>, C, StateInformationMiddleware>;

/// `limit` requests a window, spread evenly, of which `burst` may come at once.
#[derive(Debug)]
pub(super) struct Even<C: Clock> {
    rates: Rates<C>,
    pub(super) store: Arc<Store<C, Arrival>>,
    /// From one request to the next, once the burst is used up.
    period: Duration,
    clock: C,
}

impl<C: Clock + Clone> Even<C> {
    pub(super) fn new(limit: &Limit, burst: u32, store: Store<C, Arrival>, clock: C) -> Self {
        let period = limit.window / limit.limit.max(1);
        let burst = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
        // A period of zero cannot be: a window is a second or more, a limit a billion or less.
        let quota = Quota::with_period(period).unwrap_or_else(|| Quota::per_hour(NonZeroU32::MIN));
        let store = Arc::new(store);
        let rates = Rates::new(quota.allow_burst(burst), Handle(store.clone()), clock.clone());
        Self { rates, store, period, clock }
    }

    pub(super) fn take(&self, key: &Key, limit: &Limit) -> Result<Standing, Duration> {
        // The ranges of a limit leave no zeros.
        let cost = NonZeroU32::new(limit.cost).unwrap_or(NonZeroU32::MIN);
        match self.rates.check_key_n(key, cost) {
            Ok(Ok(state)) => Ok(Standing { remaining: state.remaining_burst_capacity(), back: self.period }),
            Ok(Err(not_until)) => Err(not_until.wait_time_from(self.clock.now())),
            // A cost above the burst, which policy refuses: such a request can never pass.
            Err(_never) => Err(limit.window),
        }
    }
}

/// What governor holds of a store.
#[derive(Debug)]
struct Handle<C: Clock>(Arc<Store<C, Arrival>>);

impl<C: Clock> StateStore for Handle<C> {
    type Key = Key;

    fn measure_and_replace<T, F, E>(&self, key: &Key, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        self.0.change(key, |arrival| {
            let (value, new) = f(arrival.0.map(|at| at.get().into()))?;
            *arrival = Arrival(NonZeroU64::new(new.as_u64()));
            Ok(value)
        })
    }
}
