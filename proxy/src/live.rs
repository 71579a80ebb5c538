//! What requests read: the snapshot and the identity in force, and whether this proxy may call itself ready.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use arc_swap::{ArcSwapOption, Guard};
use palisade_policy::Snapshot;
use tokio::sync::watch;

use crate::drain::Phase;
use crate::identity::{Identity, Standing};
use crate::upstream::experiments::{Experiments, Moment};

/// Shared by the control thread, which writes, and the workers, which read.
///
/// Absence means refusal: without a snapshot or an identity nothing passes (invariant 4).
#[derive(Debug)]
pub struct Live {
    snapshot: ArcSwapOption<Snapshot>,
    identity: ArcSwapOption<Identity>,
    listening: AtomicBool,
    /// At an edge: whether each port that speaks TLS has something to show.
    certificates_missing: AtomicBool,
    evicted: AtomicBool,
    /// Those that the snapshot names.
    pub(crate) experiments: Experiments,
    /// Counts every change, so that long-lived connections can be judged again.
    changes: watch::Sender<u64>,
}

impl Default for Live {
    fn default() -> Self {
        Self {
            snapshot: ArcSwapOption::empty(),
            identity: ArcSwapOption::empty(),
            listening: AtomicBool::new(false),
            certificates_missing: AtomicBool::new(false),
            evicted: AtomicBool::new(false),
            experiments: Experiments::default(),
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

    /// Has no effect after eviction.
    pub fn set_snapshot(&self, snapshot: Arc<Snapshot>) {
        // First: whoever takes a destination of this snapshot finds its experiments.
        self.experiments.named(snapshot.experiments(), Moment::now());
        self.snapshot.store(Some(snapshot));
        self.stay_evicted();
        self.changed();
    }

    /// Has no effect after eviction.
    pub fn set_identity(&self, identity: Arc<Identity>) {
        self.identity.store(Some(identity));
        self.stay_evicted();
        self.changed();
    }

    /// The certificate expired: handshakes are refused until there is another one.
    pub fn remove_identity(&self) {
        self.identity.store(None);
        self.changed();
    }

    /// Eviction: both are taken away and stay away.
    pub fn evict(&self) {
        self.evicted.store(true, Ordering::Release);
        self.stay_evicted();
        self.changed();
    }

    /// Asked after each store as well as at eviction, so that no order of the two leaves anything behind.
    fn stay_evicted(&self) {
        if self.is_evicted() {
            self.identity.store(None);
            self.snapshot.store(None);
        }
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

    /// At an edge: whether a port that speaks TLS has no certificate to show.
    pub fn set_certificates_missing(&self, missing: bool) {
        if self.certificates_missing.swap(missing, Ordering::AcqRel) != missing {
            self.changed();
        }
    }

    /// What keeps this proxy from being ready, in words that `/ready` shows. Empty: ready.
    pub fn missing(&self, now: SystemTime, phase: Phase) -> Vec<&'static str> {
        let standing = self.identity().as_ref().map(|identity| identity.validity().standing(now));
        let certificate = match standing {
            Some(Standing::Valid { .. }) => None,
            Some(Standing::NotYetValid) => Some("certificate (not yet valid: compare the clocks)"),
            Some(Standing::Expired) => Some("certificate (expired)"),
            None => Some("certificate"),
        };
        let snapshot = self.snapshot().is_none().then_some("configuration");
        let listeners = (!self.is_listening()).then_some("listeners");
        let door = self
            .certificates_missing
            .load(Ordering::Acquire)
            .then_some("a certificate for a port of the edge (the log says which)");
        let evicted = self.is_evicted().then_some("membership (evicted by an operator)");
        let draining = (phase > Phase::Serving).then_some("time (draining)");
        [evicted, certificate, snapshot, listeners, door, draining].into_iter().flatten().collect()
    }

    /// Wakes on every change of snapshot, identity or listeners.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn changed(&self) {
        self.changes.send_modify(|n| *n = n.wrapping_add(1));
    }
}
