//! RetryPolicy, palisade.mesh/v1: which requests to a host may be repeated though their method does not say so, and what the
//! receiving side makes of one that comes twice.

mod build;
mod read;
mod repeats;

use std::time::Duration;

use super::request_match::MatchItem;
pub(crate) use build::build;
pub(crate) use read::read;
pub use repeats::{Duplicates, Repeats};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetryPolicySpec {
    /// As in a DestinationRule.
    pub host: String,
    /// One is enough.
    pub rules: Vec<RepeatRuleSpec>,
    /// `None`: nobody watches for requests that come twice.
    pub duplicates: Option<DuplicatesSpec>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepeatRuleSpec {
    /// Methods and paths. Empty: every request.
    pub matches: Vec<MatchItem>,
    pub because: Because,
}

/// Why a request may be repeated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Because {
    /// It bears this header, by which the application knows it again.
    Key(String),
    /// Doing it twice is the same as doing it once.
    Idempotent,
}

/// What is left out has its default ([`Duplicates`]).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DuplicatesSpec {
    pub window: Option<Duration>,
    pub max_keys: Option<u64>,
    pub on_duplicate: OnDuplicate,
}

/// What becomes of a request that comes a second time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDuplicate {
    /// It is passed on, recorded and counted.
    #[default]
    Record,
    /// While the first is under way, it is refused.
    Refuse,
}
