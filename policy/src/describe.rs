//! All that holds for calls to one host, as a caller's proxy has it, and where each value comes from.

mod experiments;
mod repeats;
mod routes;

use std::sync::Arc;

use serde::Serialize;

use crate::compile::{Destination, Snapshot, Target};
use crate::kind::destination_rule::{Effective, values};
use crate::kind::service_entry::Protocol;
use crate::kind::{DestinationRuleSpec, Meta, Named};
use crate::projection::Projection;

pub use self::experiments::{DescribedExperiment, experiment_item, experiment_requests, fault_words};
pub use self::repeats::{DescribedDuplicates, DescribedRepeats};
pub use self::routes::{DescribedRoute, DescribedRoutes, Unrouted, percent};
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
    /// What it says.
    pub repeats: Option<DescribedRepeats>,
    /// The FaultExperiments for calls of the caller, whether they are on or over.
    pub experiments: Vec<DescribedExperiment>,
    pub endpoints: Vec<DescribedEndpoint>,
    /// `None`: calls take no route. A subset has none: routes lead there.
    pub routes: Option<DescribedRoutes>,
    /// What holds for calls of HTTP that take no route.
    pub unrouted: Option<Unrouted>,
    pub values: Vec<Value>,
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
    let described = with_subsets.map(|(destination, subset)| {
        let table = snapshot.mesh_routes(destination);
        let unrouted = table.is_none() && subset.is_none() && destination.protocol != Protocol::Tcp;
        Described {
            routes: table.map(|table| routes::describe(table, proxy)),
            unrouted: unrouted.then(|| routes::unrouted(proxy)),
            ..one(projection, destination, subset, proxy)
        }
    });
    described.collect()
}

/// `name`: `namespace/name`.
fn is_named(meta: &Meta, name: &str) -> bool {
    name.split_once('/') == Some((meta.namespace.as_str(), meta.name.as_str()))
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
    let repeats = destination.repeats.as_deref().and_then(|repeats| {
        let policy = projection.retry_policies.iter().find(|policy| is_named(&policy.meta, &repeats.name))?;
        Some(repeats::describe(&policy.spec, repeats))
    });
    let experiments = destination.experiments.iter().filter_map(|experiment| {
        let mut all = projection.fault_experiments.iter();
        let written = all.find(|written| is_named(&written.meta, &experiment.id))?;
        Some(experiments::describe(written, experiment.max_active))
    });
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
        repeats,
        experiments: experiments.collect(),
        endpoints: destination.endpoints.iter().map(endpoint).collect(),
        routes: None,
        unrouted: None,
        values: values::values(destination, &effective, proxy),
    }
}
