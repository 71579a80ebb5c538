//! Instances gathered into services: one per namespace and service account.

use std::collections::{BTreeMap, BTreeSet};

use palisade_identity::WorkloadName;
use palisade_policy::{Endpoint, MeshService, ServicePort};

use super::Instance;

/// A service is known as long as an instance of it has a valid certificate, with or without endpoints: callers then
/// hear "no endpoint", not "no such service".
pub(super) fn services(instances: &BTreeMap<String, Instance>) -> Vec<MeshService> {
    let mut groups: BTreeMap<&WorkloadName, Vec<(&String, &Instance)>> = BTreeMap::new();
    for (id, instance) in instances {
        if let Some(name) = instance.workload.id.workload()
            && !instance.serves.is_empty()
        {
            groups.entry(name).or_default().push((id, instance));
        }
    }
    groups.into_iter().map(|(name, members)| service(name, &members)).collect()
}

fn service(name: &WorkloadName, members: &[(&String, &Instance)]) -> MeshService {
    let mut ports = BTreeMap::new();
    let mut identities = BTreeSet::new();
    let mut endpoints = Vec::new();
    // During a roll-out two versions may name a port differently: those that are published decide.
    let published_first = members
        .iter()
        .filter(|(_, i)| i.is_published())
        .chain(members.iter().filter(|(_, i)| !i.is_published()));
    for (id, instance) in published_first {
        identities.insert(instance.workload.id.clone());
        for served in &instance.serves {
            ports.entry(served.number).or_insert_with(|| ServicePort {
                number: served.number,
                name: served.name.clone(),
                protocol: served.protocol,
            });
        }
        if instance.is_published() {
            endpoints.push(Endpoint {
                instance: (*id).clone(),
                labels: instance.workload.labels.clone(),
                addresses: instance.addresses(),
            });
        }
    }
    MeshService {
        name: name.service_account.to_string(),
        namespace: name.namespace.to_string(),
        ports: ports.into_values().collect(),
        identities,
        endpoints,
    }
}
