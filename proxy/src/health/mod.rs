//! Whether the application beside us is well: asked at an interval, told to requests, the control plane and operators.

mod judge;
mod metrics;
mod probe;

use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use self::judge::Judge;
pub(crate) use self::metrics::metrics;
use self::probe::Questioner;
use crate::control::backoff::Complaint;
use crate::settings::Settings;
use crate::settings::health::HealthCheck;

/// What a check found wrong, or why there is no finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It was not well yet, and was not found to be ill either.
    NotYet,
    /// It takes no connection.
    Connect,
    /// It does not answer in time.
    Timeout,
    /// What it answers is not what was asked in.
    Protocol,
    /// Another status than 200 to 399.
    Status,
    /// The call of gRPC failed.
    GrpcStatus,
    /// It says so itself.
    NotServing,
}

impl Cause {
    const ALL: [Self; 7] = [
        Self::NotYet,
        Self::Connect,
        Self::Timeout,
        Self::Protocol,
        Self::Status,
        Self::GrpcStatus,
        Self::NotServing,
    ];
    /// Before the name, where it stands among the details of other things.
    const DETAILS: &'static str = "health_check_";

    /// Machine-readable, stable: the details of a record.
    pub(crate) fn details(self) -> &'static str {
        match self {
            Self::NotYet => "health_check_not_yet",
            Self::Connect => "health_check_connect",
            Self::Timeout => "health_check_timeout",
            Self::Protocol => "health_check_protocol",
            Self::Status => "health_check_status",
            Self::GrpcStatus => "health_check_grpc_status",
            Self::NotServing => "health_check_not_serving",
        }
    }

    /// The same in metrics and pages.
    pub(crate) fn name(self) -> &'static str {
        self.details().strip_prefix(Self::DETAILS).unwrap_or_default()
    }
}

/// A check that was not good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) cause: Cause,
    /// For operators, in one line.
    pub(crate) words: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

/// How things stand with the application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Nobody asks.
    Unchecked,
    Healthy,
    Unhealthy(Failure),
}

/// Written by the control thread, read by everybody. Without a check it says that all is well.
#[derive(Debug)]
pub struct Health {
    /// For requests: 0 lets them pass, anything else is a place among causes, counted from 1.
    refusing: AtomicU8,
    standing: watch::Sender<Standing>,
    /// Checks that were good, and those that were not.
    good: AtomicU64,
    bad: [AtomicU64; Cause::ALL.len()],
    /// Changes to healthy, and to unhealthy.
    recoveries: AtomicU64,
    failures: AtomicU64,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            refusing: AtomicU8::new(0),
            standing: watch::Sender::new(Standing::Unchecked),
            good: AtomicU64::new(0),
            bad: Default::default(),
            recoveries: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        }
    }
}

impl Health {
    /// With a check the application is unhealthy until that finds it well.
    pub(crate) fn new(check: Option<&HealthCheck>) -> Self {
        let health = Self::default();
        if let Some(check) = check {
            let words = format!("{}: no good check yet", check.probe);
            health.set(Standing::Unhealthy(Failure { cause: Cause::NotYet, words }));
        }
        health
    }

    /// Why requests are refused now. One relaxed load.
    pub(crate) fn refusal(&self) -> Option<Cause> {
        let place = usize::from(self.refusing.load(Ordering::Relaxed)).checked_sub(1)?;
        Cause::ALL.get(place).copied()
    }

    pub(crate) fn standing(&self) -> Standing {
        self.standing.borrow().clone()
    }

    /// Wakes when how things stand changes.
    pub(crate) fn changes(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    fn set(&self, standing: Standing) {
        let place = match &standing {
            Standing::Unchecked | Standing::Healthy => None,
            Standing::Unhealthy(failure) => Cause::ALL.iter().position(|cause| *cause == failure.cause),
        };
        let refusing =
            place.and_then(|place| u8::try_from(place).ok()).map_or(0, |place| place.saturating_add(1));
        self.refusing.store(refusing, Ordering::Relaxed);
        self.standing.send_replace(standing);
    }

    fn count(&self, result: &Result<(), Failure>) {
        let counter = match result {
            Ok(()) => Some(&self.good),
            Err(failure) => {
                let place = Cause::ALL.iter().position(|cause| *cause == failure.cause);
                place.and_then(|place| self.bad.get(place))
            }
        };
        if let Some(counter) = counter {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Asks the application for as long as it is polled; for ever, where nobody wants it asked.
pub(crate) async fn keep(health: &Health, settings: &Settings, warn_interval: Duration) {
    let check = settings.health.as_ref();
    let Some((check, target)) = check.and_then(|check| Some((check, check.target(&settings.serves)?))) else {
        return std::future::pending().await;
    };
    let questioner = Questioner::new(check, target);
    Box::pin(watch(health, check, warn_interval, async || {
        let asked = timeout(check.timeout, questioner.ask()).await;
        asked.unwrap_or_else(|_late| Err(questioner.late(check.timeout)))
    }))
    .await;
}

/// Asks again and again, and says what becomes of it.
async fn watch(
    health: &Health,
    check: &HealthCheck,
    warn_interval: Duration,
    mut ask: impl AsyncFnMut() -> Result<(), Failure>,
) {
    let mut judge = Judge::new(check);
    let mut complaint = Complaint::new(warn_interval);
    tracing::info!(check = %check.probe, "requests are refused until the application's health check is good");
    sleep(check.initial_delay).await;
    loop {
        let began = Instant::now();
        let result = ask().await;
        health.count(&result);
        let changed = judge.saw(result.is_ok());
        match result {
            Ok(()) if changed => {
                health.recoveries.fetch_add(1, Ordering::Relaxed);
                complaint.forget();
                tracing::info!(check = %check.probe, "the application is healthy: requests are taken");
                health.set(Standing::Healthy);
            }
            Err(failure) if !judge.is_healthy() => {
                if changed {
                    health.failures.fetch_add(1, Ordering::Relaxed);
                }
                complaint.say(&failure, "the application is unhealthy: requests are refused");
                if health.refusal() != Some(failure.cause) {
                    health.set(Standing::Unhealthy(failure));
                }
            }
            Err(failure) => tracing::debug!(reason = %failure, "a health check failed"),
            Ok(()) => {}
        }
        sleep_until(began + judge.pause()).await;
    }
}

#[cfg(test)]
mod tests;
