//! What the policies in force make of one workload, or what one object is for.

pub(crate) mod destination;

use std::collections::BTreeMap;

use palisade_identity::SpiffeId;
use palisade_policy::kind::authorization_policy::{Action, is_dry_run};
use palisade_policy::kind::{Named, Object};
use palisade_policy::projection::{could_ever_allow, project};
use palisade_policy::{Findings, PolicySet, Projection, Snapshot, Workload};
use palisade_proto::v1::{ListProxiesResponse, Proxy};
use serde::Serialize;

/// A workload: instances with one identity and one set of labels.
#[derive(Debug, Serialize)]
pub(crate) struct Described {
    pub(crate) spiffe_id: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) instances: Vec<InstanceState>,
    pub(crate) ports: Vec<Port>,
    /// In the order in which they are asked.
    pub(crate) policies: Vec<Stage>,
    pub(crate) callers: Vec<Caller>,
}

#[derive(Debug, Serialize)]
pub(crate) struct InstanceState {
    pub(crate) instance_id: String,
    pub(crate) connected: bool,
    pub(crate) ready: bool,
    pub(crate) acked_version: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Port {
    pub(crate) number: u16,
    pub(crate) mtls: &'static str,
}

/// Objects that are asked together.
#[derive(Debug, Serialize)]
pub(crate) struct Stage {
    pub(crate) stage: &'static str,
    pub(crate) objects: Vec<String>,
}

/// A workload that has joined, and whether it could be let in with any request at all.
#[derive(Debug, Serialize)]
pub(crate) struct Caller {
    pub(crate) spiffe_id: String,
    pub(crate) could_be_let_in: bool,
}

/// Every workload that has joined, with its instances.
pub(crate) fn workloads(proxies: &[Proxy]) -> BTreeMap<(SpiffeId, BTreeMap<String, String>), Vec<&Proxy>> {
    let mut all: BTreeMap<_, Vec<&Proxy>> = BTreeMap::new();
    for proxy in proxies {
        if let Ok(id) = SpiffeId::parse(&proxy.spiffe_id) {
            all.entry((id, proxy.labels.clone())).or_default().push(proxy);
        }
    }
    all
}

/// The workload with these instances, as the policies have it.
pub(crate) fn workload(
    set: &PolicySet,
    workload: &Workload,
    instances: &[&Proxy],
    everybody: &ListProxiesResponse,
) -> Result<Described, Findings> {
    let projection = project(set, &destination::services(&everybody.proxies), workload);
    let snapshot = Snapshot::compile(everybody.version, &projection)?;
    let mut numbers: Vec<u16> = instances
        .iter()
        .flat_map(|proxy| &proxy.serves)
        .filter_map(|served| u16::try_from(served.number).ok())
        .collect();
    numbers.sort_unstable();
    numbers.dedup();
    let port = |number: u16| Port { number, mtls: snapshot.mtls_mode(number).name() };
    let mut ids: Vec<SpiffeId> = workloads(&everybody.proxies).into_keys().map(|(id, _)| id).collect();
    ids.dedup();
    let caller = |id: SpiffeId| Caller {
        could_be_let_in: could_ever_allow(set, workload, &id),
        spiffe_id: id.to_string(),
    };
    let state = |proxy: &&Proxy| InstanceState {
        instance_id: proxy.instance_id.clone(),
        connected: proxy.connected,
        ready: proxy.ready,
        acked_version: proxy.acked_version,
    };
    Ok(Described {
        spiffe_id: workload.id.to_string(),
        labels: workload.labels.clone(),
        instances: instances.iter().map(state).collect(),
        ports: numbers.into_iter().map(port).collect(),
        policies: stages(&projection),
        callers: ids.into_iter().map(caller).collect(),
    })
}

/// Workloads that are told something else when this object is away.
pub(crate) fn concerned(set: &PolicySet, object: &Object, proxies: &[Proxy]) -> Vec<SpiffeId> {
    let is = |other: &Object| {
        other.spec.kind() == object.spec.kind()
            && (&other.meta.namespace, &other.meta.name) == (&object.meta.namespace, &object.meta.name)
    };
    let others = set.objects().iter().filter(|other| !is(other)).cloned().collect();
    // Without it another may refer to nothing; that is a warning, never an error of a set.
    let Ok((without, _)) = PolicySet::new(others, &[]) else { return Vec::new() };
    let services = destination::services(proxies);
    let mut ids = Vec::new();
    for (id, labels) in workloads(proxies).into_keys() {
        let workload = Workload { id: id.clone(), labels };
        if project(set, &services, &workload) != project(&without, &services, &workload) {
            ids.push(id);
        }
    }
    ids.dedup();
    ids
}

/// The workloads that have joined and that carry an experiment out, with the number of their instances: what projection and
/// compilation leave of it.
pub(crate) fn reached(set: &PolicySet, experiment: &Object, proxies: &[Proxy]) -> Vec<(SpiffeId, usize)> {
    let id = format!("{}/{}", experiment.meta.namespace, experiment.meta.name);
    let services = destination::services(proxies);
    let mut found: BTreeMap<SpiffeId, usize> = BTreeMap::new();
    for ((caller, labels), instances) in workloads(proxies) {
        let workload = Workload { id: caller.clone(), labels };
        let Ok(snapshot) = Snapshot::compile(0, &project(set, &services, &workload)) else { continue };
        let is_carried_out = snapshot
            .destinations()
            .any(|(_, destination)| destination.experiments.iter().any(|experiment| *experiment.id == *id));
        if is_carried_out {
            *found.entry(caller).or_default() += instances.len();
        }
    }
    found.into_iter().collect()
}

/// As `docs/reference/edge.md` and the pipeline of a sidecar have it: limits without a token, guards, the token, what asks for
/// one, then AuthorizationPolicies.
fn stages(projection: &Projection) -> Vec<Stage> {
    let authorization = |wanted: Action, dry: bool| {
        let of = projection.authorization.iter().filter(move |policy| {
            policy.spec.action == wanted && dry == is_dry_run(&policy.meta).unwrap_or(false)
        });
        let named =
            of.map(|p| format!("{}/{} ({} rules)", p.meta.namespace, p.meta.name, p.spec.rules.len()));
        named.collect::<Vec<_>>()
    };
    let all = [
        ("RateLimitPolicy", named(&projection.rate_limits)),
        ("RequestGuard", named(&projection.request_guards)),
        ("RetryPolicy", named(&projection.retry_policies)),
        ("FaultExperiment", named(&projection.fault_experiments)),
        ("RequestAuthentication", named(&projection.request_authentication)),
        ("JwtPolicy", named(&projection.jwt_policies)),
        ("PeerAuthentication", named(&projection.peer_authentication)),
        ("AuthorizationPolicy DENY", authorization(Action::Deny, false)),
        ("AuthorizationPolicy ALLOW", authorization(Action::Allow, false)),
        ("AuthorizationPolicy AUDIT", authorization(Action::Audit, false)),
        ("dry run DENY", authorization(Action::Deny, true)),
        ("dry run ALLOW", authorization(Action::Allow, true)),
    ];
    let stage = |(stage, objects): (&'static str, Vec<String>)| Stage { stage, objects };
    all.into_iter().map(stage).filter(|stage| !stage.objects.is_empty()).collect()
}

fn named<T>(objects: &[Named<T>]) -> Vec<String> {
    objects.iter().map(|o| format!("{}/{}", o.meta.namespace, o.meta.name)).collect()
}
