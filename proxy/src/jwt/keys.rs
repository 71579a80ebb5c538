//! One source of keys: where it is, what it gave last, and what was asked of it in vain.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwapOption, Guard};
pub(crate) use palisade_policy::compile::authentication::{KeyOrigin, KeySource};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::verify::KeySet;

/// Key ids that a source is known not to have. 1 000 of 256 bytes: 256 KiB at most per source; the oldest goes first.
const UNKNOWN_MAX: usize = 1_000;

/// Keys in force.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// Differs from every other set of keys that this process has had, of any source.
    pub(crate) generation: u64,
    pub(crate) set: KeySet,
}

/// A source and what is known of it. Workers read; the control thread writes.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) spec: Arc<KeySource>,
    loaded: ArcSwapOption<Loaded>,
    /// SHA-256 of what the keys in force were read from: the same answer again changes nothing.
    digest: Mutex<Option<[u8; 32]>>,
    /// Finished looks, good or bad.
    looks: watch::Sender<Looks>,
    pub(super) wanted: Notify,
    unknown: Mutex<VecDeque<(Box<str>, Instant)>>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Looks {
    pub(super) finished: u64,
    pub(super) last: Option<Instant>,
}

impl Source {
    pub(super) fn new(spec: Arc<KeySource>) -> Self {
        Self {
            spec,
            loaded: ArcSwapOption::empty(),
            digest: Mutex::default(),
            looks: watch::Sender::default(),
            wanted: Notify::new(),
            unknown: Mutex::default(),
        }
    }

    pub(super) fn loaded(&self) -> Guard<Option<Arc<Loaded>>> {
        self.loaded.load()
    }

    /// Puts keys in force. The generation changes only with the text they were read from.
    pub(super) fn store(&self, set: KeySet, digest: [u8; 32]) {
        static GENERATIONS: AtomicU64 = AtomicU64::new(1);
        let mut known = self.digest.lock().unwrap_or_else(PoisonError::into_inner);
        if known.replace(digest) != Some(digest) {
            let generation = GENERATIONS.fetch_add(1, Ordering::Relaxed);
            self.loaded.store(Some(Arc::new(Loaded { generation, set })));
            self.unknown.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }

    pub(super) fn finished_look(&self) {
        self.looks.send_modify(|looks| {
            *looks = Looks { finished: looks.finished.wrapping_add(1), last: Some(Instant::now()) };
        });
    }

    /// Asks for a look at the newest keys and waits for it, at most `patience`. `false`: none is due, or none ended
    /// in time. However many ask, one look is under way at a time, and not before `refetch_min` has passed.
    pub(super) async fn refetch(&self, patience: Duration) -> bool {
        let mut looks = self.looks.subscribe();
        let before = *looks.borrow_and_update();
        if before.last.is_some_and(|last| last.elapsed() < self.spec.refetch_min) {
            return false;
        }
        self.wanted.notify_one();
        let ended = looks.wait_for(|now| now.finished != before.finished);
        matches!(tokio::time::timeout(patience, ended).await, Ok(Ok(_)))
    }

    /// Whether this id was looked for in vain within `refetch_min` times five: no reason to look again.
    pub(super) fn is_known_unknown(&self, id: &str) -> bool {
        let forget = self.spec.refetch_min.saturating_mul(5);
        let mut unknown = self.unknown.lock().unwrap_or_else(PoisonError::into_inner);
        while unknown.front().is_some_and(|(_, since)| since.elapsed() >= forget) {
            unknown.pop_front();
        }
        unknown.iter().any(|(known, _)| **known == *id)
    }

    pub(super) fn note_unknown(&self, id: &str) {
        let mut unknown = self.unknown.lock().unwrap_or_else(PoisonError::into_inner);
        if unknown.iter().any(|(known, _)| **known == *id) {
            return;
        }
        if unknown.len() >= UNKNOWN_MAX {
            unknown.pop_front();
        }
        unknown.push_back((id.into(), Instant::now()));
    }
}
