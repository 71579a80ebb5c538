//! DestinationRule, networking.istio.io/v1: how callers share a host's endpoints among their requests, what they bound, when
//! they leave an endpoint out, and how they connect.

pub mod balancing;
mod check;
pub mod effective;
pub mod outliers;
pub mod pool;
mod range;
mod read;
pub mod tls;
pub mod values;

use std::collections::BTreeMap;

pub use balancing::LoadBalancer;
pub(crate) use check::check;
pub use effective::{Effective, Place};
pub use outliers::{Outliers, SUCCESS_RATE_ANNOTATION};
pub use pool::ConnectionPool;
pub(crate) use read::read;
pub use tls::{TlsMode, TlsSettings};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DestinationRuleSpec {
    pub host: String,
    pub policy: TrafficPolicy,
    pub subsets: Vec<Subset>,
}

/// What is said of a host, or of a subset of it. One without any field is the same as none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrafficPolicy {
    /// Boxed, since most objects of a set are smaller than these are.
    pub settings: Box<Settings>,
    /// A port is there once.
    pub ports: Vec<PortSettings>,
    /// Istio has it for all ports together.
    pub retry_budget: Option<RetryBudget>,
}

/// The settings that a port may have of its own. A part that is absent has its defaults, as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    pub load_balancer: Option<LoadBalancer>,
    pub connection_pool: Option<ConnectionPool>,
    pub outliers: Option<Outliers>,
    pub tls: Option<TlsSettings>,
}

/// They stand in for the settings of all ports, as a whole: what they leave out has its default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortSettings {
    pub port: u16,
    pub settings: Settings,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetryBudget {
    /// In parts per million of what is under way. Whole thousandths of a percent.
    pub percent_ppm: Option<u32>,
    pub min_retry_concurrency: Option<u32>,
}

/// The endpoints that have all of these labels. Only a route that names the subset leads there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subset {
    pub name: String,
    /// Empty: all endpoints.
    pub labels: BTreeMap<String, String>,
    pub policy: TrafficPolicy,
}

impl DestinationRuleSpec {
    /// The policy of the host and those of its subsets.
    pub(crate) fn policies(&self) -> impl Iterator<Item = &TrafficPolicy> {
        std::iter::once(&self.policy).chain(self.subsets.iter().map(|subset| &subset.policy))
    }

    /// All TLS settings, of whatever port and subset.
    pub(crate) fn all_tls(&self) -> impl Iterator<Item = &TlsSettings> {
        self.policies().flat_map(TrafficPolicy::all_settings).filter_map(|settings| settings.tls.as_ref())
    }
}

impl TrafficPolicy {
    /// The settings of all ports, and those of single ones.
    pub(crate) fn all_settings(&self) -> impl Iterator<Item = &Settings> {
        std::iter::once(&*self.settings).chain(self.ports.iter().map(|port| &port.settings))
    }

    /// What a port has of its own, and its place in the list.
    pub(crate) fn of_port(&self, port: u16) -> Option<(usize, &Settings)> {
        let mut ports = self.ports.iter().enumerate();
        ports.find(|(_, of)| of.port == port).map(|(index, of)| (index, &of.settings))
    }
}
