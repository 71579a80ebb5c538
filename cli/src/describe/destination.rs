//! What holds for calls to a host, by the policies in force and the instances that have joined.

use std::collections::{BTreeMap, BTreeSet};

use palisade_identity::{Namespace, ServiceAccount, SpiffeId, TrustDomain};
use palisade_policy::describe::{Described, OfProxy, describe};
use palisade_policy::kind::Spec;
use palisade_policy::projection::project;
use palisade_policy::{Endpoint, Findings, MeshService, PolicySet, ServicePort, Snapshot, Workload};
use palisade_proto::v1;
use palisade_proxy::settings::limits::Limits;

use super::workloads;

/// As callers of the namespace have it. Whoever calls sees only what would let it in: the first workload that has joined and was
/// told of the host stands for all of them. Experiments are those of each.
pub(crate) fn destination(
    set: &PolicySet,
    host: &str,
    namespace: &Namespace,
    proxies: &[v1::Proxy],
) -> Result<Vec<Described>, Findings> {
    let services = services(proxies);
    let has_experiments = set.objects().iter().any(|object| matches!(object.spec, Spec::FaultExperiment(_)));
    let mut first: Vec<Described> = Vec::new();
    for caller in callers(namespace, proxies) {
        let projection = project(set, &services, &caller);
        let snapshot = Snapshot::compile(0, &projection)?;
        let found = describe(&projection, &snapshot, host, of_proxy());
        match first.is_empty() {
            true => first = found,
            false => add_experiments(&mut first, found),
        }
        if !first.is_empty() && !has_experiments {
            break;
        }
    }
    Ok(first)
}

fn add_experiments(first: &mut [Described], others: Vec<Described>) {
    for other in others {
        let same = |port: &&mut Described| (port.port, &port.subset) == (other.port, &other.subset);
        if let Some(port) = first.iter_mut().find(same) {
            port.experiments.extend(other.experiments);
            port.experiments.sort();
            port.experiments.dedup();
        }
    }
}

/// The namespace of a host's owner: of a service `name.namespace`, or of a ServiceEntry.
pub(crate) fn owner(set: &PolicySet, host: &str, proxies: &[v1::Proxy]) -> Option<Namespace> {
    let host = host.split_once(':').map_or(host, |(host, _)| host);
    let entry = set.objects().iter().find(
        |object| matches!(&object.spec, Spec::ServiceEntry(entry) if entry.hosts.iter().any(|name| name == host)),
    );
    if let Some(entry) = entry {
        return Namespace::parse(&entry.meta.namespace).ok();
    }
    let bare = host.strip_suffix(".svc.cluster.local").or(host.strip_suffix(".svc")).unwrap_or(host);
    let service = services(proxies).into_iter().find(|service| match bare.split_once('.') {
        Some((name, namespace)) => (service.name.as_str(), service.namespace.as_str()) == (name, namespace),
        None => service.name == bare,
    });
    service.and_then(|service| Namespace::parse(&service.namespace).ok())
}

fn of_proxy() -> OfProxy {
    let limits = Limits::default();
    OfProxy {
        connect_timeout: limits.connect_timeout,
        response_timeout: limits.response_timeout,
        http_idle_timeout: limits.idle_timeout,
        tcp_idle_timeout: limits.tcp_idle_timeout,
        concurrent_streams: limits.streams_max,
        tcp_keepalive: limits.tcp_keepalive,
    }
}

/// Those of the namespace that have joined, and one that nobody is: for hosts that all are told of.
fn callers(namespace: &Namespace, proxies: &[v1::Proxy]) -> Vec<Workload> {
    let of_namespace = |id: &SpiffeId| id.workload().is_some_and(|name| name.namespace == *namespace);
    let all = workloads(proxies);
    let domain = all.keys().next().map(|(id, _)| id.trust_domain().clone());
    let joined = all.into_keys().filter(|(id, _)| of_namespace(id));
    let mut out: Vec<_> = joined.map(|(id, labels)| Workload { id, labels }).collect();
    let domain = domain.or_else(|| TrustDomain::parse("local").ok());
    let nobody = domain.zip(ServiceAccount::parse("anyone").ok());
    out.extend(nobody.map(|(domain, account)| Workload {
        id: SpiffeId::of_workload(&domain, namespace, &account),
        labels: BTreeMap::new(),
    }));
    out
}

/// What has joined, as services.
pub(crate) fn services(proxies: &[v1::Proxy]) -> Vec<MeshService> {
    let mut services: BTreeMap<SpiffeId, MeshService> = BTreeMap::new();
    for proxy in proxies {
        let Ok(id) = SpiffeId::parse(&proxy.spiffe_id) else { continue };
        let Some(name) = id.workload() else { continue };
        let service = services.entry(id.clone()).or_insert_with(|| MeshService {
            name: name.service_account.as_str().to_owned(),
            namespace: name.namespace.as_str().to_owned(),
            ports: Vec::new(),
            identities: BTreeSet::from([id.clone()]),
            endpoints: Vec::new(),
        });
        let mut addresses = BTreeMap::new();
        for served in &proxy.serves {
            let protocol = v1::Protocol::try_from(served.protocol).ok().and_then(|p| p.try_into().ok());
            let (Ok(number), Some(protocol)) = (u16::try_from(served.number), protocol) else { continue };
            if service.ports.iter().all(|port| port.number != number) {
                service.ports.push(ServicePort { number, name: served.name.clone(), protocol });
            }
            addresses.extend(served.address.parse().ok().map(|address| (number, address)));
        }
        let instance = proxy.instance_id.clone();
        service.endpoints.push(Endpoint { instance, labels: proxy.labels.clone(), addresses });
    }
    services.into_values().filter(|service| !service.ports.is_empty()).collect()
}
