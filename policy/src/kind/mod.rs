//! The kinds of the configuration language: one file each.

mod annotations;
pub mod authorization_policy;
pub mod destination_rule;
pub(crate) mod exports;
pub mod fault_experiment;
pub mod gateway;
pub mod jwt_policy;
pub mod mesh_config;
pub mod peer_authentication;
pub(crate) mod principals;
pub mod rate_limit_policy;
pub mod request_authentication;
pub mod request_guard;
pub mod request_match;
pub mod retry_policy;
pub mod service_entry;
pub(crate) mod trust_domains;
pub mod virtual_service;

use std::collections::BTreeMap;

pub use authorization_policy::AuthorizationPolicySpec;
pub use destination_rule::DestinationRuleSpec;
pub use fault_experiment::FaultExperimentSpec;
pub use gateway::GatewaySpec;
pub use jwt_policy::JwtPolicySpec;
pub use mesh_config::MeshConfigSpec;
pub use peer_authentication::PeerAuthenticationSpec;
pub use rate_limit_policy::RateLimitPolicySpec;
pub use request_authentication::RequestAuthenticationSpec;
pub use request_guard::RequestGuardSpec;
pub use retry_policy::RetryPolicySpec;
pub use service_entry::ServiceEntrySpec;
pub use virtual_service::VirtualServiceSpec;

use crate::document::reader::{At, Fields, Reader};
use crate::finding::problem::Problems;
use crate::finding::{Position, code};
use trust_domains::TrustDomains;

/// Every kind this version knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    AuthorizationPolicy,
    PeerAuthentication,
    ServiceEntry,
    DestinationRule,
    MeshConfig,
    RateLimitPolicy,
    Gateway,
    RequestAuthentication,
    VirtualService,
    JwtPolicy,
    RequestGuard,
    RetryPolicy,
    FaultExperiment,
}

impl Kind {
    pub const ALL: [Self; 13] = [
        Self::AuthorizationPolicy,
        Self::PeerAuthentication,
        Self::ServiceEntry,
        Self::DestinationRule,
        Self::MeshConfig,
        Self::Gateway,
        Self::VirtualService,
        Self::RequestAuthentication,
        Self::JwtPolicy,
        Self::RateLimitPolicy,
        Self::RequestGuard,
        Self::RetryPolicy,
        Self::FaultExperiment,
    ];

    /// The name in a document's `kind` field.
    pub fn name(self) -> &'static str {
        match self {
            Self::AuthorizationPolicy => "AuthorizationPolicy",
            Self::PeerAuthentication => "PeerAuthentication",
            Self::ServiceEntry => "ServiceEntry",
            Self::DestinationRule => "DestinationRule",
            Self::MeshConfig => "MeshConfig",
            Self::RateLimitPolicy => "RateLimitPolicy",
            Self::Gateway => "Gateway",
            Self::RequestAuthentication => "RequestAuthentication",
            Self::VirtualService => "VirtualService",
            Self::JwtPolicy => "JwtPolicy",
            Self::RequestGuard => "RequestGuard",
            Self::RetryPolicy => "RetryPolicy",
            Self::FaultExperiment => "FaultExperiment",
        }
    }

    /// The value of a document's `apiVersion` field.
    pub fn api_version(self) -> &'static str {
        match self {
            Self::AuthorizationPolicy | Self::PeerAuthentication | Self::RequestAuthentication => {
                "security.istio.io/v1"
            }
            Self::ServiceEntry | Self::DestinationRule | Self::Gateway | Self::VirtualService => {
                "networking.istio.io/v1"
            }
            Self::MeshConfig
            | Self::RateLimitPolicy
            | Self::JwtPolicy
            | Self::RequestGuard
            | Self::RetryPolicy
            | Self::FaultExperiment => "palisade.mesh/v1",
        }
    }
}

/// Name, namespace and annotations of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    pub namespace: String,
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
}

/// What an object says. Each variant is plain data in the spelling of its document; the compiled form is made by
/// the kind's own constructor, which YAML and wire share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spec {
    AuthorizationPolicy(AuthorizationPolicySpec),
    PeerAuthentication(PeerAuthenticationSpec),
    ServiceEntry(ServiceEntrySpec),
    DestinationRule(DestinationRuleSpec),
    MeshConfig(MeshConfigSpec),
    RateLimitPolicy(RateLimitPolicySpec),
    Gateway(GatewaySpec),
    RequestAuthentication(RequestAuthenticationSpec),
    VirtualService(VirtualServiceSpec),
    JwtPolicy(JwtPolicySpec),
    RequestGuard(RequestGuardSpec),
    RetryPolicy(RetryPolicySpec),
    FaultExperiment(FaultExperimentSpec),
}

/// One document, read and checked on its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    pub meta: Meta,
    pub spec: Spec,
    /// Where the document starts.
    pub position: Option<Position>,
    /// The text of this document alone, as written (what `get` gives back and the store keeps).
    pub text: String,
}

/// A spec with the name it goes by in decisions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named<T> {
    pub meta: Meta,
    pub spec: T,
}

/// Which workloads an object is for: all of these labels, in the object's namespace (or in every namespace when
/// the object lives in the root namespace). Empty: all of them.
pub type Selector = BTreeMap<String, String>;

impl Spec {
    pub fn kind(&self) -> Kind {
        match self {
            Self::AuthorizationPolicy(_) => Kind::AuthorizationPolicy,
            Self::PeerAuthentication(_) => Kind::PeerAuthentication,
            Self::ServiceEntry(_) => Kind::ServiceEntry,
            Self::DestinationRule(_) => Kind::DestinationRule,
            Self::MeshConfig(_) => Kind::MeshConfig,
            Self::RateLimitPolicy(_) => Kind::RateLimitPolicy,
            Self::Gateway(_) => Kind::Gateway,
            Self::RequestAuthentication(_) => Kind::RequestAuthentication,
            Self::VirtualService(_) => Kind::VirtualService,
            Self::JwtPolicy(_) => Kind::JwtPolicy,
            Self::RequestGuard(_) => Kind::RequestGuard,
            Self::RetryPolicy(_) => Kind::RetryPolicy,
            Self::FaultExperiment(_) => Kind::FaultExperiment,
        }
    }
}

/// Reads the spec of a kind. `None` where it cannot be made at all; why is among the reader's findings.
pub(crate) fn read(reader: &mut Reader<'_>, kind: Kind, at: &At<'_>) -> Option<Spec> {
    Some(match kind {
        Kind::AuthorizationPolicy => Spec::AuthorizationPolicy(authorization_policy::read::read(reader, at)?),
        Kind::PeerAuthentication => Spec::PeerAuthentication(peer_authentication::read(reader, at)?),
        Kind::ServiceEntry => Spec::ServiceEntry(service_entry::read(reader, at)?),
        Kind::DestinationRule => Spec::DestinationRule(destination_rule::read(reader, at)?),
        Kind::MeshConfig => Spec::MeshConfig(mesh_config::read(reader, at)?),
        Kind::RateLimitPolicy => Spec::RateLimitPolicy(rate_limit_policy::read(reader, at)?),
        Kind::Gateway => Spec::Gateway(gateway::read(reader, at)?),
        Kind::RequestAuthentication => Spec::RequestAuthentication(request_authentication::read(reader, at)?),
        Kind::VirtualService => Spec::VirtualService(virtual_service::read(reader, at)?),
        Kind::JwtPolicy => Spec::JwtPolicy(jwt_policy::read(reader, at)?),
        Kind::RequestGuard => Spec::RequestGuard(request_guard::read(reader, at)?),
        Kind::RetryPolicy => Spec::RetryPolicy(retry_policy::read(reader, at)?),
        Kind::FaultExperiment => Spec::FaultExperiment(fault_experiment::read(reader, at)?),
    })
}

/// Checks what an object means, on its own.
pub(crate) fn check(meta: &Meta, spec: &Spec, problems: &mut Problems) {
    annotations::check(spec.kind(), meta, problems);
    match spec {
        Spec::AuthorizationPolicy(spec) => {
            authorization_policy::build::build(meta, spec, &TrustDomains::default(), problems);
        }
        Spec::PeerAuthentication(spec) => peer_authentication::check(meta, spec, problems),
        Spec::ServiceEntry(spec) => service_entry::check(meta, spec, problems),
        Spec::DestinationRule(spec) => destination_rule::check(meta, spec, problems),
        Spec::MeshConfig(spec) => mesh_config::check(meta, spec, problems),
        Spec::RateLimitPolicy(spec) => {
            rate_limit_policy::build(meta, spec, problems);
        }
        Spec::Gateway(spec) => gateway::check(meta, spec, problems),
        Spec::RequestAuthentication(spec) => request_authentication::check(spec, problems),
        Spec::VirtualService(spec) => {
            virtual_service::build(meta, spec, problems);
        }
        Spec::JwtPolicy(spec) => {
            jwt_policy::build(meta, spec, problems);
        }
        Spec::RequestGuard(spec) => {
            request_guard::build(meta, spec, problems);
        }
        Spec::RetryPolicy(spec) => {
            retry_policy::build(meta, spec, problems);
        }
        Spec::FaultExperiment(spec) => {
            fault_experiment::build(meta, spec, problems);
        }
    }
}

/// `selector: {matchLabels: {...}}`.
fn read_selector(reader: &mut Reader<'_>, fields: &mut Fields<'_>) -> Selector {
    let Some(at) = fields.take("selector") else { return Selector::new() };
    let Some(mut selector) = reader.mapping(&at) else { return Selector::new() };
    let labels = selector.take("matchLabels").map(|at| read_labels(reader, &at)).unwrap_or_default();
    reader.finish(selector, &[("matchExpressions", "write the labels out under matchLabels")]);
    labels
}

/// As Istio does: selectors and subsets name labels as they are.
fn read_labels(reader: &mut Reader<'_>, at: &At<'_>) -> Selector {
    let mut labels = Selector::new();
    for (key, value) in reader.entries(at) {
        let text = reader.any_text(&value);
        if key.is_empty() {
            reader.error(code::EMPTY_VALUE, value.mark(), &at.path, "a label has a name", None);
        } else if key.contains('*') || text.as_ref().is_some_and(|text| text.contains('*')) {
            let message = "a * in labels is no pattern: labels are compared whole";
            let help = "name the label as workloads have it, or leave it out to mean all";
            reader.error(code::BAD_NAME, value.mark(), &value.path, message, Some(help.to_owned()));
        }
        labels.extend(text.map(|text| (key.to_owned(), text)));
    }
    labels
}

/// Whether an object of `namespace` is for this workload.
pub(crate) fn selects(
    object_namespace: &str,
    selector: &Selector,
    root_namespace: &str,
    workload_namespace: &str,
    labels: &BTreeMap<String, String>,
) -> bool {
    (object_namespace == workload_namespace || object_namespace == root_namespace)
        && selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}
