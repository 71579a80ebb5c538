//! What requests read: the snapshot and the identity in force, and whether this proxy may call itself ready.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::{ArcSwapOption, Guard};
use palisade_policy::Snapshot;
use tokio::sync::watch;

use crate::identity::Identity;

/// Shared by the control thread, which writes, and the workers, which read.
///
/// Absence means refusal: without a snapshot or an identity nothing passes (invariant 4).
#[derive(Debug)]
pub struct Live {
    snapshot: ArcSwapOption<Snapshot>,
    identity: ArcSwapOption<Identity>,
    listening: AtomicBool,
    evicted: AtomicBool,
    /// Counts every change, so that long-lived connections can be judged again.
    changes: watch::Sender<u64>,
}

impl Default for Live {
    fn default() -> Self {
        Self {
            snapshot: ArcSwapOption::empty(),
            identity: ArcSwapOption::empty(),
            listening: AtomicBool::new(false),
            evicted: AtomicBool::new(false),
            changes: watch::Sender::new(0),
        }
    }
}

impl Live {
    /// The snapshot for one request. Taken once; never asked for again within that request (invariant 3).
    pub fn snapshot(&self) -> Guard<Option<Arc<Snapshot>>> {
        self.snapshot.load()
    }

    /// The identity in force, unless it was taken away. Expiry is the reader's to check.
    pub fn identity(&self) -> Guard<Option<Arc<Identity>>> {
        self.identity.load()
    }

    pub fn set_snapshot(&self, snapshot: Arc<Snapshot>) {
        self.snapshot.store(Some(snapshot));
        self.changed();
    }

    pub fn set_identity(&self, identity: Arc<Identity>) {
        self.identity.store(Some(identity));
        self.changed();
    }

    /// Eviction: both are taken away and stay away.
    pub fn evict(&self) {
        self.evicted.store(true, Ordering::Release);
        self.identity.store(None);
        self.snapshot.store(None);
        self.changed();
    }

    pub fn is_evicted(&self) -> bool {
        self.evicted.load(Ordering::Acquire)
    }

    pub fn set_listening(&self, listening: bool) {
        self.listening.store(listening, Ordering::Release);
        self.changed();
    }

    pub fn is_listening(&self) -> bool {
        self.listening.load(Ordering::Acquire)
    }

    /// Wakes on every change of snapshot, identity or listeners.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn changed(&self) {
        self.changes.send_modify(|n| *n = n.wrapping_add(1));
    }
}
