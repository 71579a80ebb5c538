//! Limits that all proxies of a mesh count together, in a Redis or Valkey that they share.
//!
//! Every worker has one connection of its own, on which questions are pipelined. While it is away requests are told so at
//! once and wait for nothing; a task of the worker looks for the store in the background.

mod bounded;
mod connect;
mod keep;
mod name;
mod script;
mod status;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use palisade_policy::kind::rate_limit_policy::Limit;
use smallvec::SmallVec;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::{Asked, Standing};
use connect::Link;
pub(crate) use keep::keep;
use script::Question;
pub use status::Status;
pub(crate) use status::View;

/// What one limit said: what is left, or how long to wait.
pub(crate) type Answer = Result<Standing, Duration>;
/// The answers to one request, in the order of its limits.
pub(crate) type Answers = SmallVec<[Answer; 4]>;

/// Why the store could not be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub(crate) enum StoreFailure {
    #[error("this proxy was told of no store (--limit-store)")]
    NotConfigured,
    #[error("the store cannot be reached")]
    Unreachable,
    #[error("the store, or a file of its credentials, cannot be used")]
    Credentials,
    #[error("the store gave no answer in time")]
    Timeout,
    #[error("the store closed the connection")]
    Closed,
    #[error("too many requests wait for the store")]
    Busy,
    #[error("the store answered with an error")]
    ErrorAnswer,
    #[error("the store's answer makes no sense")]
    BadAnswer,
}

impl StoreFailure {
    /// In records and metrics.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::NotConfigured => "not_configured",
            Self::Unreachable => "unreachable",
            Self::Credentials => "credentials",
            Self::Timeout => "timeout",
            Self::Closed => "closed",
            Self::Busy => "busy",
            Self::ErrorAnswer => "error_answer",
            Self::BadAnswer => "bad_answer",
        }
    }
}

/// One worker's way to the store.
#[derive(Debug)]
pub(crate) struct Mesh {
    link: RefCell<Result<Rc<Link>, StoreFailure>>,
    /// Wakes the keeper: the link is gone, or has to be looked at.
    doubt: Notify,
    in_flight: Cell<usize>,
    in_flight_max: usize,
    timeout: Duration,
}

impl Mesh {
    /// `timeout`: how long one question may take; `None`: there is no store.
    pub(crate) fn new(timeout: Option<Duration>, in_flight_max: usize) -> Self {
        let why = if timeout.is_some() { StoreFailure::Unreachable } else { StoreFailure::NotConfigured };
        Self {
            link: RefCell::new(Err(why)),
            doubt: Notify::new(),
            in_flight: Cell::new(0),
            in_flight_max,
            timeout: timeout.unwrap_or_default(),
        }
    }

    /// Takes the cost of one request from all limits, or from none when one of them refuses.
    pub(crate) async fn take(
        &self,
        domain: &str,
        limits: &[&Arc<Limit>],
        asked: &Asked<'_>,
    ) -> Result<Answers, StoreFailure> {
        let link = self.link.borrow().clone()?;
        let slot = self.enter()?;
        let question = Question::new(domain, limits, asked);
        let answer = timeout(self.timeout, link.ask(&question, self.in_flight.get())).await;
        drop(slot);
        let failure = match answer {
            Ok(Ok(answers)) => return Ok(answers),
            Ok(Err(fault)) => {
                tracing::debug!(reason = %fault, "a rate limit could not be counted");
                fault.failure
            }
            Err(_elapsed) => StoreFailure::Timeout,
        };
        self.failed(&link, failure);
        Err(failure)
    }

    /// An error answer comes at once and may be about one key: the link stays, and is looked at. Anything else ends it,
    /// so that the next request does not wait too.
    fn failed(&self, link: &Rc<Link>, failure: StoreFailure) {
        if failure != StoreFailure::ErrorAnswer {
            let mut known = self.link.borrow_mut();
            if known.as_ref().is_ok_and(|known| Rc::ptr_eq(known, link)) {
                *known = Err(failure);
            }
        }
        self.doubt.notify_one();
    }

    fn enter(&self) -> Result<Slot<'_>, StoreFailure> {
        if self.in_flight.get() >= self.in_flight_max {
            return Err(StoreFailure::Busy);
        }
        self.in_flight.set(self.in_flight.get() + 1);
        Ok(Slot(&self.in_flight))
    }
}

/// A question under way, also when its caller goes away.
struct Slot<'m>(&'m Cell<usize>);

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}
