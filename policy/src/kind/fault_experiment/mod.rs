//! FaultExperiment, palisade.mesh/v1: what is done to calls of some workloads to some hosts on purpose, for a while.

mod build;
mod faults;
mod leave;
mod read;

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use super::request_match::MatchItem;
use super::virtual_service::fault::AbortStatus;
use crate::experiment::DelayLength;
pub(crate) use build::build;
pub(crate) use leave::{Leave, protects_account};
pub(crate) use read::{read, read_timeless};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultExperimentSpec {
    /// Patterns, as AuthorizationPolicies write principals. Never empty.
    pub callers: Vec<String>,
    /// As in a RetryPolicy. Never empty.
    pub hosts: Vec<String>,
    /// Empty: every port.
    pub ports: Vec<u16>,
    /// Empty: every request.
    pub matches: Vec<ExperimentItem>,
    pub starts_at: SystemTime,
    pub duration: Duration,
    /// Of a million attempts. Default: all.
    pub share_ppm: u32,
    /// Default 100.
    pub max_active: Option<u64>,
    pub fault: FaultSpec,
}

impl FaultExperimentSpec {
    /// The first moment at which it is over.
    pub fn ends_at(&self) -> SystemTime {
        self.starts_at.checked_add(self.duration).unwrap_or(self.starts_at)
    }
}

/// Methods, paths and routes, and headers with their exact values. All that is given must fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExperimentItem {
    pub request: MatchItem,
    pub headers: BTreeMap<String, String>,
}

/// As it is written; which parts go together is `build`'s to say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FaultSpec {
    pub delay: Option<DelayLength>,
    pub abort: Option<AbortStatus>,
    pub reset: bool,
    pub response: ResponseFault,
}

/// What is done to the answer of an upstream that has processed the request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponseFault {
    pub drop: bool,
    /// Bytes of the body that the caller gets.
    pub truncate_after: Option<u64>,
    pub slow: Option<SlowBody>,
    /// Bytes of the body in a second.
    pub bandwidth: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlowBody {
    pub every_bytes: u64,
    pub pause: Duration,
}
