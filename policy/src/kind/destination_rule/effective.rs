//! What a rule makes of one port of its host, or of a subset there. As in Istio: settings of a port stand in for those of all
//! ports as a whole; what a subset says of its own takes the place of what the host says, part by part.

use super::outliers::{SUCCESS_RATE_ANNOTATION, by_success_rate};
use super::{
    ConnectionPool, DestinationRuleSpec, LoadBalancer, Outliers, RetryBudget, Settings, TlsSettings,
    TrafficPolicy,
};
use crate::kind::service_entry::Protocol;
use crate::kind::{Meta, Named};
use crate::traffic::{self, Traffic};

/// The parts that count, each with its place in the rule. `None`: nothing is said, so that defaults hold.
#[derive(Clone, Debug, Default)]
pub struct Effective<'r> {
    pub load_balancer: Part<'r, LoadBalancer>,
    pub connection_pool: Part<'r, ConnectionPool>,
    pub outliers: Part<'r, Outliers>,
    pub tls: Part<'r, TlsSettings>,
    pub retry_budget: Part<'r, RetryBudget>,
    meta: Option<&'r Meta>,
}

pub type Part<'r, T> = Option<(Place, &'r T)>;

/// Where in a rule a part stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Index of the subset; `None`: of the host.
    pub subset: Option<usize>,
    /// Index in `portLevelSettings`; `None`: of all ports.
    pub port: Option<usize>,
}

impl Place {
    /// Path of a field there: `spec.trafficPolicy.portLevelSettings[0].tls`.
    pub fn path(self, field: &str) -> String {
        let mut path = match self.subset {
            Some(index) => format!("spec.subsets[{index}].trafficPolicy."),
            None => "spec.trafficPolicy.".to_owned(),
        };
        if let Some(index) = self.port {
            path.push_str(&format!("portLevelSettings[{index}]."));
        }
        path + field
    }
}

impl<'r> Effective<'r> {
    /// `subset`: index of one of the rule's.
    pub fn new(rule: &'r Named<DestinationRuleSpec>, port: u16, subset: Option<usize>) -> Self {
        let spec = &rule.spec;
        let mut parts = Self { meta: Some(&rule.meta), ..Self::default() };
        parts.take(&spec.policy, port, None);
        if let Some((index, subset)) = subset.and_then(|index| Some((index, spec.subsets.get(index)?))) {
            parts.take(&subset.policy, port, Some(index));
        }
        parts
    }

    fn take(&mut self, policy: &'r TrafficPolicy, port: u16, subset: Option<usize>) {
        let (settings, place) = match policy.of_port(port) {
            Some((index, settings)) => (settings, Place { subset, port: Some(index) }),
            None => (&*policy.settings, Place { subset, port: None }),
        };
        let Settings { load_balancer, connection_pool, outliers, tls } = settings;
        let whole = place.port.is_some();
        replace(&mut self.load_balancer, load_balancer, place, whole);
        replace(&mut self.connection_pool, connection_pool, place, whole);
        replace(&mut self.outliers, outliers, place, whole);
        replace(&mut self.tls, tls, place, whole);
        replace(&mut self.retry_budget, &policy.retry_budget, Place { subset, port: None }, false);
    }

    /// Everything decided, with defaults for what is not said.
    pub fn traffic(&self, protocol: Protocol) -> Traffic {
        let balancer = self.load_balancer.map(|(_, balancer)| balancer);
        let pool = self.connection_pool.map(|(_, pool)| pool.bounds(protocol));
        let by_rate = self.by_success_rate();
        Traffic {
            balance: balancer.map(LoadBalancer::balance).unwrap_or_default(),
            warmup: balancer.and_then(LoadBalancer::warmup),
            pool: pool.unwrap_or_default(),
            outliers: self.outliers.map(|(_, outliers)| outliers.detection(by_rate)),
            retry_budget: self.retry_budget.map(|(_, budget)| budget.share()).unwrap_or_default(),
        }
    }

    /// Whether endpoints that succeed less often than others are left out, where any are.
    fn by_success_rate(&self) -> bool {
        self.meta.is_none_or(|meta| by_success_rate(meta).unwrap_or(true))
    }

    pub(super) fn annotates_success_rate(&self) -> bool {
        self.meta.is_some_and(|meta| meta.annotations.contains_key(SUCCESS_RATE_ANNOTATION))
    }
}

fn replace<'r, T>(part: &mut Part<'r, T>, with: &'r Option<T>, place: Place, whole: bool) {
    if with.is_some() || whole {
        *part = with.as_ref().map(|value| (place, value));
    }
}

impl RetryBudget {
    fn share(&self) -> traffic::RetryBudget {
        let defaults = traffic::RetryBudget::default();
        traffic::RetryBudget {
            millipercent: self.percent_ppm.map_or(defaults.millipercent, |ppm| ppm / 10),
            min_concurrency: self.min_retry_concurrency.unwrap_or(defaults.min_concurrency),
        }
    }
}
