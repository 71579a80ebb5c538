//! Bounded state behind governor's GCRA.
//!
//! One number per key: the time at which its quota will have recovered. A number in the past says the same as no
//! number, so such entries can go at any time. When there is no room for a new key even so, it shares one overflow
//! number with all other new keys of the limit: memory stays bounded, and no quota that was used is ever given back.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use governor::clock::{Clock, Reference};
use governor::nanos::Nanos;
use governor::state::StateStore;

use super::key::Key;

/// Locks per limit; a key belongs to one.
const PARTS: usize = 16;
/// A full part is searched for recovered entries at most this often (nanoseconds), however many new keys come.
const SEARCH_INTERVAL: u64 = 1_000_000_000;
/// The store starts a moment before its rate limiter, so its time is ahead by less than this (nanoseconds).
const AHEAD: u64 = 1_000_000;

#[derive(Debug)]
pub(super) struct Store<C: Clock> {
    clock: C,
    start: C::Instant,
    parts: [Mutex<Part>; PARTS],
    overflow: Mutex<Option<u64>>,
    count: Arc<AtomicUsize>,
    count_max: usize,
}

#[derive(Debug, Default)]
struct Part {
    recovered_at: HashMap<Key, u64>,
    search_after: u64,
}

impl<C: Clock> Store<C> {
    pub(super) fn new(clock: C, count: Arc<AtomicUsize>, count_max: usize) -> Self {
        let start = clock.now();
        Self { clock, start, parts: Default::default(), overflow: Mutex::default(), count, count_max }
    }

    pub(super) fn tidy(&self, turn: usize) {
        if let Some(part) = turn.checked_rem(PARTS).and_then(|i| self.parts.get(i)) {
            self.drop_recovered(&mut lock(part));
        }
    }

    pub(super) fn is_recovered(&self) -> bool {
        let now = self.now();
        let past = |at: u64| at.saturating_add(AHEAD) <= now;
        lock(&self.overflow).is_none_or(past)
            && self.parts.iter().all(|part| lock(part).recovered_at.values().all(|at| past(*at)))
    }

    fn now(&self) -> u64 {
        self.clock.now().duration_since(self.start).as_u64()
    }

    fn drop_recovered(&self, part: &mut Part) {
        let now = self.now();
        let before = part.recovered_at.len();
        part.recovered_at.retain(|_, at| at.saturating_add(AHEAD) > now);
        let after = part.recovered_at.len();
        self.count.fetch_sub(before.saturating_sub(after), Ordering::Relaxed);
        // A flood that is over gives its memory back.
        if part.recovered_at.capacity() / 4 > after {
            part.recovered_at.shrink_to(after * 2);
        }
        part.search_after = now.saturating_add(SEARCH_INTERVAL);
    }

    /// Reserves room for one more key.
    fn reserve(&self) -> bool {
        let more = |count: usize| (count < self.count_max).then_some(count + 1);
        self.count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    fn has_room(&self, part: &mut Part) -> bool {
        if self.reserve() {
            return true;
        }
        if self.now() < part.search_after {
            return false;
        }
        self.drop_recovered(part);
        self.reserve()
    }
}

/// What governor holds of a store.
#[derive(Debug)]
pub(super) struct Handle<C: Clock>(pub(super) Arc<Store<C>>);

impl<C: Clock> StateStore for Handle<C> {
    type Key = Key;

    fn measure_and_replace<T, F, E>(&self, key: &Key, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        self.0.measure_and_replace(key, f)
    }
}

impl<C: Clock> StateStore for Store<C> {
    type Key = Key;

    fn measure_and_replace<T, F, E>(&self, key: &Key, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        if let Some(mut part) = self.parts.get(key.part(PARTS)).map(lock) {
            if let Some(at) = part.recovered_at.get_mut(key) {
                let (value, new) = f(Some((*at).into()))?;
                *at = new.as_u64();
                return Ok(value);
            }
            if self.has_room(&mut part) {
                let measured = f(None);
                match &measured {
                    Ok((_, new)) => {
                        part.recovered_at.insert(*key, new.as_u64());
                    }
                    Err(_) => {
                        self.count.fetch_sub(1, Ordering::Relaxed);
                    }
                }
                return measured.map(|(value, _)| value);
            }
        }
        let mut overflow = lock(&self.overflow);
        let (value, new) = f(overflow.map(Into::into))?;
        *overflow = Some(new.as_u64());
        Ok(value)
    }
}

impl<C: Clock> Drop for Store<C> {
    fn drop(&mut self) {
        let left = self.parts.iter().map(|part| lock(part).recovered_at.len()).sum();
        self.count.fetch_sub(left, Ordering::Relaxed);
    }
}

/// Nothing is left half done under these locks, so a panic elsewhere does not spoil what they hold.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
