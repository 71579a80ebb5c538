//! A projection made ready for requests: immutable, without state, lookups instead of scans.

pub mod ambiguous;
pub mod authentication;
pub(crate) mod authorization;
mod destinations;
pub mod edge;
mod experiments;
pub mod judged;
mod mesh_routes;
mod repeats;
pub mod routes;
mod tcp;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use hashbrown::HashSet;
use palisade_identity::SpiffeId;

use crate::decision::{Decision, Grant, Observations, Permit, Refusal};
use crate::experiment::Experiment;
use crate::finding::problem::Problems;
use crate::finding::{Findings, code};
use crate::kind::destination_rule::{self, TlsSettings};
use crate::kind::gateway;
use crate::kind::mesh_config::{self, MeshConfigSpec};
use crate::kind::peer_authentication::{self, Modes, MtlsMode};
use crate::kind::rate_limit_policy::{self, Limit, Scope};
use crate::kind::request_authentication;
use crate::kind::request_guard::{self, rule::GuardRule};
use crate::kind::request_match::MatchView;
use crate::kind::retry_policy::Repeats;
use crate::kind::service_entry::{self, Protocol};
use crate::kind::trust_domains::TrustDomains;
use crate::kind::virtual_service;
use crate::kind::{Kind, Meta, Named, Selector, selects};
use crate::projection::{Projection, Workload};
use crate::request::RequestView;
use crate::traffic::Traffic;
use authentication::Authentication;
use authorization::Authorization;
pub use authorization::{Role, TracedRule};
use destinations::Destinations;
use edge::Edge;
use experiments::Experiments;
use judged::JudgedHeaders;
use mesh_routes::MeshRoutes;
use repeats::ByHost;
use routes::{RouteTable, Routes};

/// The compiled policy of one workload.
#[derive(Debug)]
pub struct Snapshot {
    /// Version of the policy set it was made from (0 in file mode before the first reload counts up).
    pub version: u64,
    pub workload: Workload,
    pub mesh: MeshConfigSpec,
    authentication: Authentication,
    authorization: Authorization,
    tcp_authorization: Authorization,
    modes: Modes,
    destinations: Destinations,
    edge: Edge,
    mesh_routes: MeshRoutes,
    limits: Vec<(Moment, Arc<Limit>)>,
    guards: Vec<Arc<GuardRule>>,
    watch: Option<Arc<Repeats>>,
    judged: Arc<JudgedHeaders>,
    revoked: HashSet<Box<str>>,
}

/// When a limit is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Before a signature is checked: limits that need neither token nor route.
    BeforeToken,
    /// After token and authorization: the others.
    AfterToken,
}

impl Moment {
    pub const ALL: [Self; 2] = [Self::BeforeToken, Self::AfterToken];
}

/// Where an outbound request goes: one port of one service.
#[derive(Debug)]
pub struct Destination {
    /// Stable across snapshots while host and port stay the same; pools hang on it.
    pub host: Arc<str>,
    pub port: u16,
    /// `Some`: these are the endpoints of a subset only. Routes lead there, no name does.
    pub subset: Option<Arc<str>>,
    /// What records call it, in Envoy's form: `outbound|port|subset|host`.
    pub cluster: Arc<str>,
    pub protocol: Protocol,
    /// For records and metrics, where the destination is a mesh service.
    pub service_name: Arc<str>,
    pub service_namespace: Arc<str>,
    pub transport: Transport,
    pub endpoints: Vec<Target>,
    pub traffic: Arc<Traffic>,
    /// The DestinationRule that it was made by, `namespace/name`.
    pub rule: Option<Arc<str>>,
    /// Which requests may be repeated beside those that are idempotent by their method.
    pub repeats: Option<Arc<Repeats>>,
    /// What is done to attempts on purpose, in the order of ids. Empty nearly always.
    pub experiments: Arc<[Arc<Experiment>]>,
}

/// How a destination is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Mesh mutual TLS; the server must prove one of these ids. Never empty.
    Mesh { identities: Arc<BTreeSet<SpiffeId>> },
    /// Outside the mesh, in plaintext.
    Plaintext,
    /// Outside the mesh, TLS with the server's DNS name checked.
    Tls { settings: Arc<TlsSettings>, server_name: Arc<str> },
}

/// One address of a destination. Its `weight` beside the others is 1 or more; what weighs nothing is left out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    Address {
        instance: Arc<str>,
        address: SocketAddr,
        weight: u32,
    },
    /// To be resolved by the proxy (DNS resolution of a ServiceEntry).
    Name {
        host: Arc<str>,
        port: u16,
        weight: u32,
    },
}

impl Target {
    pub fn weight(&self) -> u32 {
        match self {
            Self::Address { weight, .. } | Self::Name { weight, .. } => *weight,
        }
    }
}

impl Snapshot {
    /// Compiles a projection; refuses it whole when any part does not compile.
    pub fn compile(version: u64, projection: &Projection) -> Result<Self, Findings> {
        let mut findings = Findings::default();
        check(projection, &mut findings);
        let workload = &projection.workload;
        let own_namespace = workload.id.workload().map(|w| w.namespace.as_str()).unwrap_or_default();
        let domains =
            TrustDomains::new(workload.id.trust_domain().as_str(), &projection.mesh.trust_domain_aliases);
        let authorization = Authorization::new(&projection.authorization, &domains, &mut findings);
        let tcp_authorization = Authorization::for_tcp(&projection.authorization, &domains);
        let modes = Modes::new(&projection.peer_authentication, &projection.root_namespace);
        let repeats = ByHost::new(projection, &mut findings);
        let watch =
            workload.own_host().and_then(|(host, namespace)| repeats.find(&host, &namespace, &namespace));
        let watch = watch.filter(|repeats| repeats.duplicates.is_some()).map(Arc::clone);
        let experiments = Experiments::new(projection, &mut findings);
        let destinations =
            Destinations::new(projection, own_namespace, (&repeats, &experiments), &mut findings);
        let built = built_routes(projection, own_namespace, &mut findings);
        let mesh_routes = MeshRoutes::new(projection, &built, own_namespace, &destinations);
        let routes = Routes::new(&projection.virtual_services, &built, &destinations);
        let edge = Edge::new(&projection.gateways, &routes, &mut findings);
        let guards = guards(projection, &mut findings);
        let authentication = Authentication::new(projection, &mut findings);
        let limits = limits(projection, &authentication, &mut findings);
        let judged = JudgedHeaders::new(projection, authentication.rules.iter().map(|rule| &**rule));
        if findings.has_errors() {
            return Err(findings);
        }
        let (workload, mesh) = (workload.clone(), projection.mesh.clone());
        Ok(Self {
            version,
            workload,
            mesh,
            authentication,
            authorization,
            tcp_authorization,
            modes,
            destinations,
            edge,
            mesh_routes,
            limits,
            guards,
            watch,
            judged: Arc::new(judged),
            revoked: projection.revoked.iter().map(|serial| serial.as_str().into()).collect(),
        })
    }

    /// The token rules of this workload.
    pub fn authentication(&self) -> &Authentication {
        &self.authentication
    }

    /// Judges an inbound request: PeerAuthentication, then DENY, then ALLOW.
    pub fn authorize(&self, request: &RequestView<'_>) -> Decision {
        self.judge(&self.authorization, request)
    }

    fn judge(&self, authorization: &Authorization, request: &RequestView<'_>) -> Decision {
        if self.refuses_plaintext(request) {
            return Decision::Refuse { refusal: Refusal::PlaintextRefused };
        }
        match authorization.judge(request) {
            Ok(grant) => Decision::Allow { permit: Permit::new(), grant },
            Err(refusal) => Decision::Refuse { refusal },
        }
    }

    /// Whether PeerAuthentication refuses a request, since its caller brought no certificate.
    pub(crate) fn refuses_plaintext(&self, request: &RequestView<'_>) -> bool {
        request.peer.is_none() && self.mtls_mode(request.destination_port) == MtlsMode::Strict
    }

    /// Whether an ALLOW policy selects the workload, so that what none matches is refused.
    pub fn has_allow_policy(&self) -> bool {
        self.authorization.has_allow()
    }

    /// Whether `observe` has anything to look for.
    pub fn has_observers(&self) -> bool {
        self.authorization.has_observers()
    }

    /// What AUDIT and dry-run policies have to say about a request. They decide nothing.
    pub fn observe(&self, request: &RequestView<'_>) -> Observations {
        self.authorization.observe(request)
    }

    /// Every rule of every AuthorizationPolicy of this workload, and what it asks of a request. For explaining: it costs far
    /// more than a decision, and makes none.
    pub fn trace(&self, request: &RequestView<'_>) -> Vec<TracedRule> {
        self.authorization.trace(request)
    }

    /// The limits that a request counts against at this moment, in the order of policies.
    pub fn limits(&self, view: MatchView<'_>, moment: Moment) -> impl Iterator<Item = &Arc<Limit>> {
        let now = self.limits.iter().filter(move |(at, limit)| *at == moment && limit.matches.matches(&view));
        now.map(|(_, limit)| limit)
    }

    /// Whether a limit counts across the mesh, so that a store is needed.
    pub fn has_mesh_limits(&self) -> bool {
        self.limits.iter().any(|(_, limit)| matches!(limit.scope, Scope::Mesh(_)))
    }

    /// The rules of guards that hold for a request, in the order of guards. All of them apply.
    pub fn guards(&self, view: MatchView<'_>) -> impl Iterator<Item = &Arc<GuardRule>> {
        self.guards.iter().filter(move |rule| rule.matches(&view))
    }

    /// Whether `guards` has anything to look for.
    pub fn has_guards(&self) -> bool {
        !self.guards.is_empty()
    }

    /// The policy by which requests that come to this workload twice are known, if any asks for that.
    pub fn watch(&self) -> Option<&Arc<Repeats>> {
        self.watch.as_ref()
    }

    /// The headers that any policy of this workload goes by.
    pub fn judged_headers(&self) -> &Arc<JudgedHeaders> {
        &self.judged
    }

    /// Whether some guard might let off an ambiguous path of a request to this host. Whether one does is known only when
    /// the route is; until then this may say yes too often.
    pub fn may_keep_ambiguous(&self, host: &str, method: &str) -> bool {
        self.guards.iter().any(|rule| rule.may_keep(host, method))
    }

    /// Whether the certificate of this serial number (upper-case hex) was taken back before its end.
    pub fn is_revoked(&self, serial: &str) -> bool {
        !self.revoked.is_empty() && self.revoked.contains(serial)
    }

    /// The mode for a service port, inheritance resolved; never `Unset`.
    pub fn mtls_mode(&self, port: u16) -> MtlsMode {
        self.modes.get(port)
    }

    /// Finds the destination of an authority (`host` or `host:port`, any case, with or without trailing dot).
    /// Short names are looked up in the workload's own namespace. `default_port` is used where none is written.
    pub fn destination(&self, authority: &str, default_port: u16) -> Option<&Arc<Destination>> {
        self.destinations.find(authority, default_port)
    }

    /// A subset of a destination, by its name in the DestinationRule.
    pub fn subset(&self, of: &Destination, name: &str) -> Option<&Arc<Destination>> {
        self.destinations.subset(of, name)
    }

    /// The subsets of a destination, in the order of its DestinationRule.
    pub fn subsets(&self, of: &Destination) -> &[Arc<Destination>] {
        self.destinations.subsets(of)
    }

    /// Every destination under every name it may be called by, without subsets.
    pub fn destinations(&self) -> impl Iterator<Item = (&str, &Arc<Destination>)> {
        self.destinations.iter()
    }

    /// The experiments of all destinations, each once or more often.
    pub fn experiments(&self) -> impl Iterator<Item = &Arc<Experiment>> {
        self.destinations.every().flat_map(|destination| destination.experiments.iter())
    }

    /// The routes that requests for a destination take, where there are any.
    pub fn mesh_routes(&self, destination: &Destination) -> Option<&Arc<RouteTable>> {
        self.mesh_routes.of(destination)
    }

    /// What this workload serves as an edge.
    pub fn edge(&self) -> &Edge {
        &self.edge
    }

    /// Judges a request at the edge: the destination is known, then DENY, then ALLOW. Whether clients bring
    /// certificates is the Gateway's to say; PeerAuthentication does not apply.
    pub fn authorize_edge(&self, request: &RequestView<'_>, destination: &Destination) -> Decision {
        match self.authorize_outbound(destination) {
            Decision::Allow { .. } => {}
            refused @ Decision::Refuse { .. } => return refused,
        }
        self.authorize_answer(request)
    }

    /// Judges a request that the edge answers itself, by a redirect or a direct response: DENY, then ALLOW. The permit
    /// is for no destination; nothing is forwarded by it.
    pub fn authorize_answer(&self, request: &RequestView<'_>) -> Decision {
        match self.authorization.judge(request) {
            Ok(grant) => Decision::Allow { permit: Permit::new(), grant },
            Err(refusal) => Decision::Refuse { refusal },
        }
    }

    /// Outbound leave: the destination is one that this workload was told of.
    pub fn authorize_outbound(&self, destination: &Destination) -> Decision {
        if self.destinations.has(destination) {
            Decision::Allow { permit: Permit::new(), grant: Grant::KnownDestination }
        } else {
            Decision::Refuse { refusal: Refusal::UnknownDestination }
        }
    }
}

/// What came by wire is checked as YAML is: the control plane may be of another version, or compromised.
fn check(projection: &Projection, findings: &mut Findings) {
    let workload = &projection.workload;
    let Some(name) = workload.id.workload() else {
        let message = format!("{} is not of the form /ns/<namespace>/sa/<service-account>", workload.id);
        report(findings, "workload", |p| p.error(code::BAD_WORKLOAD, "workload.id", message));
        return;
    };
    let namespace = name.namespace.as_str();
    let selected = |meta: &Meta, selector: &Selector| {
        selects(&meta.namespace, selector, &projection.root_namespace, namespace, &workload.labels)
    };
    let strange = |findings: &mut Findings, kind: Kind, meta: &Meta| {
        let message =
            format!("{} {}/{} does not select this workload", kind.name(), meta.namespace, meta.name);
        let object = format!("{} {}/{}", kind.name(), meta.namespace, meta.name);
        report(findings, &object, |p| p.error(code::NOT_FOR_WORKLOAD, "spec.selector", message));
    };
    for Named { meta, spec } in &projection.authorization {
        if !selected(meta, &spec.selector) {
            strange(findings, Kind::AuthorizationPolicy, meta);
        }
    }
    for Named { meta, spec } in &projection.peer_authentication {
        if !selected(meta, &spec.selector) {
            strange(findings, Kind::PeerAuthentication, meta);
        }
        let object = format!("{} {}/{}", Kind::PeerAuthentication.name(), meta.namespace, meta.name);
        report(findings, &object, |p| peer_authentication::check(meta, spec, p));
    }
    for Named { meta, spec } in &projection.rate_limits {
        if !selected(meta, &spec.selector) {
            strange(findings, Kind::RateLimitPolicy, meta);
        }
    }
    for Named { meta, spec } in &projection.request_guards {
        if !selected(meta, &spec.selector) {
            strange(findings, Kind::RequestGuard, meta);
        }
    }
    for Named { meta, spec } in &projection.service_entries {
        let object = format!("{} {}/{}", Kind::ServiceEntry.name(), meta.namespace, meta.name);
        report(findings, &object, |p| service_entry::check(meta, spec, p));
    }
    for Named { meta, spec } in &projection.destination_rules {
        let object = format!("{} {}/{}", Kind::DestinationRule.name(), meta.namespace, meta.name);
        report(findings, &object, |p| destination_rule::check(meta, spec, p));
    }
    for Named { meta, spec } in &projection.gateways {
        if !selected(meta, &spec.selector) {
            strange(findings, Kind::Gateway, meta);
        }
        let object = format!("{} {}/{}", Kind::Gateway.name(), meta.namespace, meta.name);
        report(findings, &object, |p| gateway::check(meta, spec, p));
    }
    for Named { meta, spec } in &projection.request_authentication {
        if !selected(meta, &spec.selector) {
            strange(findings, Kind::RequestAuthentication, meta);
        }
        let object = format!("{} {}/{}", Kind::RequestAuthentication.name(), meta.namespace, meta.name);
        report(findings, &object, |p| request_authentication::check(spec, p));
    }
    for Named { meta, spec } in &projection.jwt_policies {
        if !selected(meta, &spec.selector) {
            strange(findings, Kind::JwtPolicy, meta);
        }
    }
    report(findings, Kind::MeshConfig.name(), |p| mesh_config::check_spec(&projection.mesh, p));
}

/// The routes of each VirtualService, in their order, without what cannot match requests of this workload.
fn built_routes(
    projection: &Projection,
    own_namespace: &str,
    findings: &mut Findings,
) -> Vec<Vec<virtual_service::Built>> {
    let mut built = Vec::with_capacity(projection.virtual_services.len());
    for Named { meta, spec } in &projection.virtual_services {
        let object = format!("{} {}/{}", Kind::VirtualService.name(), meta.namespace, meta.name);
        report(findings, &object, |p| {
            if !virtual_service::is_for_mesh(spec) && !projection.serves(meta, spec) {
                let message = "it is bound to no Gateway of this workload";
                p.error(code::NOT_FOR_WORKLOAD, "spec.gateways", message);
            }
            let mut routes = virtual_service::build(meta, spec, p);
            routes.retain_mut(|route| route.is_for(own_namespace, &projection.workload.labels));
            built.push(routes);
        });
    }
    for conflict in virtual_service::conflicts(&projection.virtual_services) {
        let Some(Named { meta, .. }) = projection.virtual_services.get(conflict.index) else { continue };
        let object = format!("{} {}/{}", Kind::VirtualService.name(), meta.namespace, meta.name);
        report(findings, &object, |p| p.error(code::HOST_TAKEN, conflict.path, conflict.message));
    }
    built
}

fn limits(
    projection: &Projection,
    authentication: &Authentication,
    findings: &mut Findings,
) -> Vec<(Moment, Arc<Limit>)> {
    // What a token writes into a header is the caller's own word until the token was verified.
    let is_late =
        |limit: &Limit| limit.is_late() || limit.headers_of_key().any(|name| authentication.writes(name));
    let with_moment = |limit: Limit| {
        let moment = if is_late(&limit) { Moment::AfterToken } else { Moment::BeforeToken };
        (moment, Arc::new(limit))
    };
    let mut limits = Vec::new();
    for Named { meta, spec } in &projection.rate_limits {
        let object = format!("{} {}/{}", Kind::RateLimitPolicy.name(), meta.namespace, meta.name);
        report(findings, &object, |p| {
            limits.extend(rate_limit_policy::build(meta, spec, p).into_iter().map(with_moment));
        });
    }
    limits
}

fn guards(projection: &Projection, findings: &mut Findings) -> Vec<Arc<GuardRule>> {
    let mut guards = Vec::new();
    for Named { meta, spec } in &projection.request_guards {
        let object = format!("{} {}/{}", Kind::RequestGuard.name(), meta.namespace, meta.name);
        report(findings, &object, |p| {
            guards.extend(request_guard::build(meta, spec, p).into_iter().map(Arc::new));
        });
    }
    guards
}

fn report(findings: &mut Findings, object: &str, check: impl FnOnce(&mut Problems)) {
    let mut problems = Problems::default();
    check(&mut problems);
    problems.place(Some(object), |_| None, findings);
}
