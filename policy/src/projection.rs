//! What one workload may know: the part of the set and of the registry that concerns it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use http::HeaderMap;
use palisade_identity::SpiffeId;

use crate::compile::authorization::Authorization;
use crate::finding::Findings;
use crate::kind::authorization_policy::DRY_RUN_ANNOTATION;
use crate::kind::destination_rule::SUCCESS_RATE_ANNOTATION;
use crate::kind::fault_experiment::Leave;
use crate::kind::gateway::HSTS_ANNOTATION;
use crate::kind::service_entry::Protocol;
use crate::kind::trust_domains::TrustDomains;
use crate::kind::{
    AuthorizationPolicySpec, DestinationRuleSpec, FaultExperimentSpec, GatewaySpec, JwtPolicySpec,
    MeshConfigSpec, Meta, Named, Object, PeerAuthenticationSpec, RateLimitPolicySpec,
    RequestAuthenticationSpec, RequestGuardSpec, RetryPolicySpec, Selector, ServiceEntrySpec, Spec,
    VirtualServiceSpec, exports, selects, virtual_service,
};
use crate::request::RequestView;
use crate::set::names::{canonical, resolve};
use crate::set::{PolicySet, ROOT_NAMESPACE};

/// A workload as policy sees it. The labels come from whoever attested it, never from the workload itself:
/// selectors use them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Always of the form `/ns/<namespace>/sa/<service-account>`.
    pub id: SpiffeId,
    pub labels: BTreeMap<String, String>,
}

impl Workload {
    /// The host of the service that the workload is an instance of, `<service-account>.<namespace>`, and its namespace.
    pub(crate) fn own_host(&self) -> Option<(String, String)> {
        let name = self.id.workload()?;
        Some((
            format!("{}.{}", name.service_account.as_str(), name.namespace.as_str()),
            name.namespace.as_str().into(),
        ))
    }
}

/// A service made of registered instances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeshService {
    /// The service account's name; the service's host is `<name>.<namespace>`.
    pub name: String,
    pub namespace: String,
    pub ports: Vec<ServicePort>,
    /// The only identities that an endpoint of this service may prove.
    pub identities: BTreeSet<SpiffeId>,
    pub endpoints: Vec<Endpoint>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServicePort {
    pub number: u16,
    pub name: String,
    pub protocol: Protocol,
}

/// One instance of a service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// Stable across pushes; pools and health hang on it.
    pub instance: String,
    pub labels: BTreeMap<String, String>,
    /// Service port number to the address where the instance's sidecar takes mutual TLS for it.
    pub addresses: BTreeMap<u16, SocketAddr>,
}

/// Everything that one workload is told. Plain data; equality of projections is what decides whether a push is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Projection {
    pub root_namespace: String,
    pub workload: Workload,
    pub mesh: MeshConfigSpec,
    pub authorization: Vec<Named<AuthorizationPolicySpec>>,
    pub peer_authentication: Vec<Named<PeerAuthenticationSpec>>,
    pub service_entries: Vec<Named<ServiceEntrySpec>>,
    pub destination_rules: Vec<Named<DestinationRuleSpec>>,
    pub services: Vec<MeshService>,
    pub gateways: Vec<Named<GatewaySpec>>,
    pub virtual_services: Vec<Named<VirtualServiceSpec>>,
    pub request_authentication: Vec<Named<RequestAuthenticationSpec>>,
    pub jwt_policies: Vec<Named<JwtPolicySpec>>,
    pub rate_limits: Vec<Named<RateLimitPolicySpec>>,
    pub request_guards: Vec<Named<RequestGuardSpec>>,
    pub retry_policies: Vec<Named<RetryPolicySpec>>,
    pub fault_experiments: Vec<Named<FaultExperimentSpec>>,
    /// Serial numbers, in upper-case hex, of certificates whose holders were evicted. Whoever shows one is nobody.
    pub revoked: BTreeSet<String>,
}

impl Projection {
    /// Whether a Gateway of the workload is among those that routes are bound to.
    pub(crate) fn serves(&self, meta: &Meta, spec: &VirtualServiceSpec) -> bool {
        let own = self.workload.id.workload().map(|name| name.namespace.as_str()).unwrap_or_default();
        let is_here = |gateway: (&str, &str)| {
            self.gateways.iter().any(|g| (g.meta.namespace.as_str(), g.meta.name.as_str()) == gateway)
        };
        exports::reach(&spec.export_to, &meta.namespace, own)
            && virtual_service::gateways(meta, spec).any(is_here)
    }
}

/// Chooses what `workload` is told.
///
/// - Policies: those that select it, of its own namespace and of the root namespace.
/// - Services: all of its own namespace, and those elsewhere that could let it in for at least one request (see
///   [`could_ever_allow`]); what a service's instances are selected by is the labels of each instance, and an
///   instance that could not let it in is not told either.
/// - VirtualServices: those bound to a Gateway that selects it, and those for sidecars whose hosts it was told of, of its
///   own namespace, of the host's, and of the root namespace. Their destinations are those that it is told of anyway; a
///   service that would not let it in stays unknown to it.
/// - ServiceEntries: those of its own namespace, and those exported to all.
/// - DestinationRules and RetryPolicies: those for a host that it was told of, of its own namespace, of the host's, and of
///   the root namespace. Of RetryPolicies also those for the host that it serves.
/// - FaultExperiments: those that name it as a caller and a host that it was told of, of its own namespace and of the root
///   namespace, as far as the mesh gives leave for them.
///
/// Order of objects and services in the result is by namespace and name, whatever the order they came in.
pub fn project(set: &PolicySet, services: &[MeshService], workload: &Workload) -> Projection {
    let namespace = workload.id.workload().map(|w| w.namespace.as_str()).unwrap_or_default();
    let mine = |meta: &Meta, selector: &Selector| {
        selects(&meta.namespace, selector, ROOT_NAMESPACE, namespace, &workload.labels)
    };
    let mut projection = Projection {
        root_namespace: ROOT_NAMESPACE.into(),
        workload: workload.clone(),
        mesh: set.mesh(),
        authorization: Vec::new(),
        peer_authentication: Vec::new(),
        service_entries: Vec::new(),
        destination_rules: Vec::new(),
        services: visible_services(set, services, workload, namespace),
        gateways: Vec::new(),
        virtual_services: Vec::new(),
        request_authentication: Vec::new(),
        jwt_policies: Vec::new(),
        rate_limits: Vec::new(),
        request_guards: Vec::new(),
        retry_policies: Vec::new(),
        fault_experiments: Vec::new(),
        // Not of policy: whoever issues certificates adds them.
        revoked: BTreeSet::new(),
    };
    for Object { meta, spec, .. } in set.objects() {
        match spec {
            Spec::AuthorizationPolicy(spec) if mine(meta, &spec.selector) => {
                projection.authorization.push(named(meta, spec));
            }
            Spec::PeerAuthentication(spec) if mine(meta, &spec.selector) => {
                projection.peer_authentication.push(named(meta, spec));
            }
            Spec::ServiceEntry(spec) if is_exported(meta, spec, namespace) => {
                projection.service_entries.push(named(meta, spec));
            }
            Spec::RequestAuthentication(spec) if mine(meta, &spec.selector) => {
                projection.request_authentication.push(named(meta, spec));
            }
            Spec::JwtPolicy(spec) if mine(meta, &spec.selector) => {
                projection.jwt_policies.push(named(meta, spec));
            }
            Spec::RateLimitPolicy(spec) if mine(meta, &spec.selector) => {
                projection.rate_limits.push(named(meta, spec));
            }
            Spec::RequestGuard(spec) if mine(meta, &spec.selector) => {
                projection.request_guards.push(named(meta, spec));
            }
            Spec::Gateway(spec) if mine(meta, &spec.selector) => {
                projection.gateways.push(named(meta, spec));
            }
            _ => {}
        }
    }
    projection.virtual_services = visible_routes(set, &projection, namespace);
    let mut hosts = hosts(&projection);
    projection.destination_rules = for_hosts(set, &hosts, namespace, |spec| match spec {
        Spec::DestinationRule(spec) => Some((spec, &spec.host)),
        _ => None,
    });
    projection.fault_experiments = experiments(set, &projection, &hosts);
    hosts.extend(workload.own_host());
    projection.retry_policies = for_hosts(set, &hosts, namespace, |spec| match spec {
        Spec::RetryPolicy(spec) => Some((spec, &spec.host)),
        _ => None,
    });
    projection
}

/// Whether `caller` could be let in by `workload` with at least one request. Only the caller's identity is judged:
/// a rule is taken to match whatever it asks of operations, addresses, headers and tokens; only a DENY that asks
/// nothing of these shuts the caller out.
pub fn could_ever_allow(set: &PolicySet, workload: &Workload, caller: &SpiffeId) -> bool {
    let Some(name) = workload.id.workload() else { return false };
    let namespace = name.namespace.as_str();
    let policies = set.objects().iter().filter_map(|object| match &object.spec {
        Spec::AuthorizationPolicy(spec) => {
            let selected =
                selects(&object.meta.namespace, &spec.selector, ROOT_NAMESPACE, namespace, &workload.labels);
            selected.then(|| named(&object.meta, spec))
        }
        _ => None,
    });
    let policies: Vec<_> = policies.collect();
    let domains = TrustDomains::new(workload.id.trust_domain().as_str(), &set.mesh().trust_domain_aliases);
    let authorization = Authorization::new(&policies, &domains, &mut Findings::default());
    authorization.could_ever_allow(&RequestView::of_caller(caller, &HeaderMap::new()))
}

fn visible_services(
    set: &PolicySet,
    services: &[MeshService],
    workload: &Workload,
    namespace: &str,
) -> Vec<MeshService> {
    let mut out = Vec::new();
    for service in services {
        if service.namespace == namespace {
            out.push(service.clone());
            continue;
        }
        let Some(id) = service.identities.first() else { continue };
        let mut judged: BTreeMap<&BTreeMap<String, String>, bool> = BTreeMap::new();
        let mut endpoints = Vec::new();
        for endpoint in &service.endpoints {
            let lets_in = *judged.entry(&endpoint.labels).or_insert_with(|| {
                let instance = Workload { id: id.clone(), labels: endpoint.labels.clone() };
                could_ever_allow(set, &instance, &workload.id)
            });
            if lets_in {
                endpoints.push(endpoint.clone());
            }
        }
        if !endpoints.is_empty() {
            out.push(MeshService { endpoints, ..service.clone() });
        }
    }
    for service in &mut out {
        service.ports.sort();
        service.endpoints.sort();
    }
    out.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    out
}

/// The hosts that a workload was told of, each with its namespace.
fn hosts(projection: &Projection) -> BTreeSet<(String, String)> {
    let services = projection.services.iter();
    let services = services.map(|s| (format!("{}.{}", s.name, s.namespace), s.namespace.clone()));
    let entries = projection.service_entries.iter();
    let entries = entries
        .flat_map(|e| e.spec.hosts.iter().map(|h| (canonical(h).to_owned(), e.meta.namespace.clone())));
    services.chain(entries).collect()
}

/// The objects of one kind that are for one of these hosts and hold for callers of `namespace`.
fn for_hosts<'s, T: Clone + 's>(
    set: &'s PolicySet,
    hosts: &BTreeSet<(String, String)>,
    namespace: &str,
    of_kind: impl Fn(&'s Spec) -> Option<(&'s T, &'s String)>,
) -> Vec<Named<T>> {
    let is_for = |meta: &Meta, host: &str| {
        let names: Vec<_> = resolve(host, &meta.namespace).collect();
        hosts.iter().any(|(host, host_namespace)| {
            names.contains(host)
                && [namespace, host_namespace.as_str(), ROOT_NAMESPACE].contains(&meta.namespace.as_str())
        })
    };
    let chosen = set.objects().iter().filter_map(|object| {
        let (spec, host) = of_kind(&object.spec)?;
        is_for(&object.meta, host).then(|| named(&object.meta, spec))
    });
    chosen.collect()
}

fn experiments(
    set: &PolicySet,
    projection: &Projection,
    hosts: &BTreeSet<(String, String)>,
) -> Vec<Named<FaultExperimentSpec>> {
    let leave = Leave::new(&projection.workload.id, &projection.root_namespace, &projection.mesh);
    let is_told = |meta: &Meta, spec: &FaultExperimentSpec| {
        let mut names = spec.hosts.iter().flat_map(|host| resolve(host, &meta.namespace));
        names.any(|name| hosts.iter().any(|(host, _)| *host == name))
    };
    let mut out = Vec::new();
    for Object { meta, spec, .. } in set.objects() {
        let Spec::FaultExperiment(spec) = spec else { continue };
        if leave.is_named(meta, spec) && leave.is_given(spec) && is_told(meta, spec) {
            out.push(named(meta, spec));
        }
    }
    out
}

fn visible_routes(
    set: &PolicySet,
    projection: &Projection,
    namespace: &str,
) -> Vec<Named<VirtualServiceSpec>> {
    let mut hosts: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for service in &projection.services {
        let host = format!("{}.{}", service.name, service.namespace);
        hosts.entry(host).or_default().insert(&service.namespace);
    }
    for Named { meta, spec } in &projection.service_entries {
        for host in &spec.hosts {
            let namespace = spec.namespace_of(host, &meta.namespace);
            hosts.entry(canonical(host).to_owned()).or_default().insert(namespace);
        }
    }
    let may_route = |meta: &Meta, spec: &VirtualServiceSpec, of_host: &str| {
        virtual_service::may_route(meta, spec, of_host, namespace, ROOT_NAMESPACE)
    };
    let mut out = Vec::new();
    for Object { meta, spec, .. } in set.objects() {
        let Spec::VirtualService(spec) = spec else { continue };
        let called = virtual_service::called_hosts(meta, spec)
            .filter_map(|host| hosts.get(&host))
            .any(|namespaces| namespaces.iter().any(|of_host| may_route(meta, spec, of_host)));
        if called || projection.serves(meta, spec) {
            out.push(named(meta, spec));
        }
    }
    out
}

fn is_exported(meta: &Meta, spec: &ServiceEntrySpec, namespace: &str) -> bool {
    exports::reach(&spec.export_to, &meta.namespace, namespace)
}

/// Labels and annotations that mean nothing to a proxy stay behind: a changed comment is no push.
fn named<T: Clone>(meta: &Meta, spec: &T) -> Named<T> {
    const MEANING: [&str; 3] = [DRY_RUN_ANNOTATION, HSTS_ANNOTATION, SUCCESS_RATE_ANNOTATION];
    let annotations = meta.annotations.iter().filter(|(key, _)| MEANING.contains(&key.as_str()));
    let meta = Meta {
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        labels: BTreeMap::new(),
        annotations: annotations.map(|(k, v)| (k.clone(), v.clone())).collect(),
    };
    Named { meta, spec: spec.clone() }
}
