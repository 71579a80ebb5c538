//! Bounded state of one limit, by key.
//!
//! State whose quota has recovered says the same as no state, so such entries can go at any time. When there is no
//! room for a new key even so, it shares one overflow state with all other new keys of the limit: memory stays
//! bounded, and no quota that was used is ever given back.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use governor::clock::{Clock, Reference};

use super::key::Key;

/// Locks per limit; a key belongs to one.
const PARTS: usize = 16;
/// A full part is searched for recovered entries at most this often (nanoseconds), however many new keys come.
const SEARCH_INTERVAL: u64 = 1_000_000_000;
/// A rate limiter may start a moment after its store, whose time is then ahead by less than this (nanoseconds).
const AHEAD: u64 = 1_000_000;

/// What is kept of one key. The default says that nothing was taken.
pub(super) trait State: Default {
    /// When it says no more than its absence would, in nanoseconds on the store's clock.
    fn recovered_at(&self) -> u64;
}

#[derive(Debug)]
pub(super) struct Store<C: Clock, S: State> {
    clock: C,
    start: C::Instant,
    parts: [Mutex<Part<S>>; PARTS],
    overflow: Mutex<S>,
    count: Arc<AtomicUsize>,
    count_max: usize,
}

#[derive(Debug)]
struct Part<S> {
    states: HashMap<Key, S>,
    search_after: u64,
}

impl<S> Default for Part<S> {
    fn default() -> Self {
        Self { states: HashMap::new(), search_after: 0 }
    }
}

impl<C: Clock, S: State> Store<C, S> {
    pub(super) fn new(clock: C, count: Arc<AtomicUsize>, count_max: usize) -> Self {
        let start = clock.now();
        let parts = std::array::from_fn(|_| Mutex::default());
        Self { clock, start, parts, overflow: Mutex::default(), count, count_max }
    }

    pub(super) fn tidy(&self, turn: usize) {
        if let Some(part) = turn.checked_rem(PARTS).and_then(|i| self.parts.get(i)) {
            self.drop_recovered(&mut lock(part));
        }
    }

    pub(super) fn is_recovered(&self) -> bool {
        let now = self.now();
        let past = |state: &S| state.recovered_at().saturating_add(AHEAD) <= now;
        past(&lock(&self.overflow)) && self.parts.iter().all(|part| lock(part).states.values().all(past))
    }

    /// Nanoseconds since the store was made.
    pub(super) fn now(&self) -> u64 {
        self.clock.now().duration_since(self.start).as_u64()
    }

    /// Changes the state of a key under its lock. A new key whose change fails is not kept.
    pub(super) fn change<T, E>(&self, key: &Key, f: impl FnOnce(&mut S) -> Result<T, E>) -> Result<T, E> {
        if let Some(mut part) = self.parts.get(key.part(PARTS)).map(lock) {
            if let Some(state) = part.states.get_mut(key) {
                return f(state);
            }
            if self.has_room(&mut part) {
                let mut state = S::default();
                let changed = f(&mut state);
                if changed.is_ok() {
                    part.states.insert(*key, state);
                } else {
                    self.count.fetch_sub(1, Ordering::Relaxed);
                }
                return changed;
            }
        }
        f(&mut lock(&self.overflow))
    }

    fn drop_recovered(&self, part: &mut Part<S>) {
        let now = self.now();
        let before = part.states.len();
        part.states.retain(|_, state| state.recovered_at().saturating_add(AHEAD) > now);
        let after = part.states.len();
        self.count.fetch_sub(before.saturating_sub(after), Ordering::Relaxed);
        // A flood that is over gives its memory back.
        if part.states.capacity() / 4 > after {
            part.states.shrink_to(after * 2);
        }
        part.search_after = now.saturating_add(SEARCH_INTERVAL);
    }

    /// Reserves room for one more key.
    fn reserve(&self) -> bool {
        let more = |count: usize| (count < self.count_max).then_some(count + 1);
        self.count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    fn has_room(&self, part: &mut Part<S>) -> bool {
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

impl<C: Clock, S: State> Drop for Store<C, S> {
    fn drop(&mut self) {
        let left = self.parts.iter().map(|part| lock(part).states.len()).sum();
        self.count.fetch_sub(left, Ordering::Relaxed);
    }
}

/// Nothing is left half done under these locks, so a panic elsewhere does not spoil what they hold.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
