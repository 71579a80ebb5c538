//! Trying again: pauses that grow, and a log that does not repeat itself.

use std::fmt::Display;
use std::time::Duration;

use tokio::time::Instant;

use crate::identity::{Backoff, chance};

/// Pauses between attempts, and what is said of them: the first failure, then one in a while.
#[derive(Debug)]
pub(super) struct Patience {
    backoff: Backoff,
    warn_interval: Duration,
    warned: Option<Instant>,
}

impl Patience {
    pub(super) fn new(min: Duration, max: Duration, warn_interval: Duration) -> Self {
        Self { backoff: Backoff::new(min, max), warn_interval, warned: None }
    }

    pub(super) fn say(&mut self, reason: &impl Display, consequence: &'static str) {
        if self.warned.is_none_or(|at| at.elapsed() >= self.warn_interval) {
            self.warned = Some(Instant::now());
            tracing::warn!(%reason, "{consequence}");
        } else {
            tracing::debug!(%reason, "{consequence}");
        }
    }

    pub(super) fn pause(&mut self) -> Duration {
        self.backoff.next(chance())
    }

    pub(super) fn reset(&mut self) {
        self.backoff.reset();
        self.warned = None;
    }
}
