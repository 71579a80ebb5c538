//! All that holds for calls to one host, as a caller's proxy has it, and where each value comes from.

mod routes;

use std::sync::Arc;

use serde::Serialize;

use crate::compile::{Destination, Snapshot, Target};
use crate::document::time;
use crate::experiment::Experiment;
use crate::kind::destination_rule::{Effective, values};
use crate::kind::{DestinationRuleSpec, Named};
use crate::projection::Projection;

pub use self::routes::{DescribedRoute, DescribedRoutes, percent};
pub use crate::kind::destination_rule::values::{OfProxy, Value};

/// One port of a host, or a subset there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Described {
    pub host: String,
    pub port: u16,
    pub subset: Option<String>,
    /// What records call it.
    pub cluster: String,
    /// The DestinationRule that counts for the caller, `namespace/name`.
    pub rule: Option<String>,
    /// The RetryPolicy that counts for the caller, `namespace/name`.
    pub retry_policy: Option<String>,
    /// The FaultExperiments for calls of the caller, whether they are on or over.
    pub experiments: Vec<DescribedExperiment>,
    pub endpoints: Vec<DescribedEndpoint>,
    /// `None`: calls take no route. A subset has none: routes lead there.
    pub routes: Option<DescribedRoutes>,
    pub values: Vec<Value>,
}

/// Times as RFC 3339 writes them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct DescribedExperiment {
    /// `namespace/name`.
    pub name: String,
    pub starts_at: String,
    pub ends_at: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DescribedEndpoint {
    /// The instance, or an address, or a name that the proxy looks up.
    pub name: String,
    pub weight: u32,
}

/// The ports of a host, by number, each followed by its subsets. `host`: as callers name it, with or without port. Empty: the
/// caller was told of no such host.
pub fn describe(projection: &Projection, snapshot: &Snapshot, host: &str, proxy: OfProxy) -> Vec<Described> {
    let mut found: Vec<&Arc<Destination>> = match snapshot.destination(host, 0) {
        Some(port) => vec![port],
        None => {
            let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
            snapshot.destinations().filter(|(host, _)| *host == name).map(|(_, port)| port).collect()
        }
    };
    found.sort_by_key(|port| port.port);
    let with_subsets = found.into_iter().flat_map(|port| {
        std::iter::once((port, None))
            .chain(snapshot.subsets(port).iter().enumerate().map(|(i, s)| (s, Some(i))))
    });
    let described = with_subsets.map(|(destination, subset)| Described {
        routes: snapshot.mesh_routes(destination).map(|table| routes::describe(table)),
        ..one(projection, destination, subset, proxy)
    });
    described.collect()
}

fn described(experiment: &Experiment) -> DescribedExperiment {
    DescribedExperiment {
        name: experiment.id.to_string(),
        starts_at: time::write(experiment.starts_at),
        ends_at: time::write(experiment.ends_at()),
    }
}

fn one(
    projection: &Projection,
    destination: &Destination,
    subset: Option<usize>,
    proxy: OfProxy,
) -> Described {
    let name = |rule: &Named<DestinationRuleSpec>| format!("{}/{}", rule.meta.namespace, rule.meta.name);
    let is_it = |rule: &&Named<_>| destination.rule.as_deref().is_some_and(|counts| *counts == name(rule));
    let rule = projection.destination_rules.iter().find(is_it);
    let effective = rule.map(|rule| Effective::new(rule, destination.port, subset)).unwrap_or_default();
    let endpoint = |target: &Target| DescribedEndpoint {
        name: match target {
            Target::Address { instance, .. } => instance.to_string(),
            Target::Name { host, port, .. } => format!("{host}:{port}"),
        },
        weight: target.weight(),
    };
    Described {
        host: destination.host.to_string(),
        port: destination.port,
        subset: destination.subset.as_deref().map(Into::into),
        cluster: destination.cluster.to_string(),
        rule: destination.rule.as_deref().map(Into::into),
        retry_policy: destination.repeats.as_ref().map(|repeats| repeats.name.to_string()),
        experiments: destination.experiments.iter().map(|experiment| described(experiment)).collect(),
        endpoints: destination.endpoints.iter().map(endpoint).collect(),
        routes: None,
        values: values::values(destination, &effective, proxy),
    }
}
