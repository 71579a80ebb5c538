//! Trying again: pauses that grow, and a log that does not repeat itself.

use std::fmt::Display;
use std::time::Duration;

use tokio::time::Instant;

use crate::identity::{Backoff, chance};

/// What is said of something that fails again and again: the first failure, one for another reason, one in a while.
#[derive(Debug)]
pub(crate) struct Complaint {
    warn_interval: Duration,
    warned: Option<(Instant, String)>,
}

/// Pauses between attempts, and what is said of them.
#[derive(Debug)]
pub(crate) struct Patience {
    backoff: Backoff,
    complaint: Complaint,
}

impl Complaint {
    pub(crate) fn new(warn_interval: Duration) -> Self {
        Self { warn_interval, warned: None }
    }

    pub(crate) fn say(&mut self, reason: &impl Display, consequence: &'static str) {
        let reason = reason.to_string();
        let known = self
            .warned
            .as_ref()
            .is_some_and(|(at, said)| *said == reason && at.elapsed() < self.warn_interval);
        if !known {
            self.warned = Some((Instant::now(), reason.clone()));
            tracing::warn!(%reason, "{consequence}");
        } else {
            tracing::debug!(%reason, "{consequence}");
        }
    }

    /// It went well: the next failure is a first one again.
    pub(crate) fn forget(&mut self) {
        self.warned = None;
    }
}

impl Patience {
    pub(crate) fn new(min: Duration, max: Duration, warn_interval: Duration) -> Self {
        Self { backoff: Backoff::new(min, max), complaint: Complaint::new(warn_interval) }
    }

    pub(crate) fn say(&mut self, reason: &impl Display, consequence: &'static str) {
        self.complaint.say(reason, consequence);
    }

    pub(crate) fn pause(&mut self) -> Duration {
        self.backoff.next(chance())
    }

    pub(crate) fn reset(&mut self) {
        self.backoff.reset();
        self.complaint.forget();
    }
}
