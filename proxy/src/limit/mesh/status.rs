//! What operators are shown of the store.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

/// Written by the workers' keepers, read by the admin pages.
#[derive(Debug, Default)]
pub struct Status {
    connected: AtomicU64,
    connections: AtomicU64,
    failure: Mutex<Option<String>>,
}

/// As `/config` has it.
#[derive(Debug, Serialize)]
pub(crate) struct View {
    /// Whether this proxy was told of a store.
    configured: bool,
    /// Whether a policy in force has limits of scope `mesh`.
    needed: bool,
    workers_connected: u64,
    /// Why a worker is without a connection.
    failure: Option<String>,
}

impl Status {
    pub(super) fn up(&self) {
        self.connected.fetch_add(1, Ordering::Relaxed);
        self.connections.fetch_add(1, Ordering::Relaxed);
        self.set_failure(None);
    }

    pub(super) fn down(&self) {
        self.connected.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn failed(&self, why: &str) {
        self.set_failure(Some(why.to_owned()));
    }

    /// Workers with a connection that works.
    pub(crate) fn connected(&self) -> u64 {
        self.connected.load(Ordering::Relaxed)
    }

    /// Connections that ever worked.
    pub(crate) fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    pub(crate) fn view(&self, configured: bool, needed: bool) -> View {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone();
        View { configured, needed, workers_connected: self.connected(), failure }
    }

    fn set_failure(&self, why: Option<String>) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }
}
