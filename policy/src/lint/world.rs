//! All objects, by kind.

use crate::kind::authorization_policy::{Action, AuthorizationPolicySpec, is_dry_run};
use crate::kind::{
    DestinationRuleSpec, FaultExperimentSpec, GatewaySpec, JwtPolicySpec, MeshConfigSpec, Object,
    PeerAuthenticationSpec, RateLimitPolicySpec, RequestAuthenticationSpec, RequestGuardSpec,
    RetryPolicySpec, Selector, ServiceEntrySpec, Spec, VirtualServiceSpec,
};

/// An object of one kind.
#[derive(Debug)]
pub(super) struct Of<'o, T> {
    /// Its place in the list of objects.
    pub(super) index: usize,
    pub(super) object: &'o Object,
    pub(super) spec: &'o T,
}

#[derive(Debug, Default)]
pub(super) struct World<'o> {
    /// Those that decide: neither dry runs nor AUDIT.
    pub(super) deciding: Vec<Of<'o, AuthorizationPolicySpec>>,
    pub(super) tokens: Vec<Of<'o, RequestAuthenticationSpec>>,
    pub(super) access: Vec<Of<'o, JwtPolicySpec>>,
    pub(super) peers: Vec<Of<'o, PeerAuthenticationSpec>>,
    pub(super) gateways: Vec<Of<'o, GatewaySpec>>,
    pub(super) services: Vec<Of<'o, VirtualServiceSpec>>,
    pub(super) limits: Vec<Of<'o, RateLimitPolicySpec>>,
    pub(super) guards: Vec<Of<'o, RequestGuardSpec>>,
    pub(super) repeats: Vec<Of<'o, RetryPolicySpec>>,
    pub(super) experiments: Vec<Of<'o, FaultExperimentSpec>>,
    pub(super) entries: Vec<Of<'o, ServiceEntrySpec>>,
    pub(super) rules: Vec<Of<'o, DestinationRuleSpec>>,
    pub(super) mesh: MeshConfigSpec,
}

impl<'o> World<'o> {
    pub(super) fn new(objects: &[&'o Object]) -> Self {
        let mut world = Self::default();
        for (index, object) in objects.iter().copied().enumerate() {
            match &object.spec {
                Spec::AuthorizationPolicy(spec) => {
                    let decides = spec.action != Action::Audit && is_dry_run(&object.meta) == Ok(false);
                    world.deciding.extend(decides.then_some(Of { index, object, spec }));
                }
                Spec::RequestAuthentication(spec) => world.tokens.push(Of { index, object, spec }),
                Spec::JwtPolicy(spec) => world.access.push(Of { index, object, spec }),
                Spec::PeerAuthentication(spec) => world.peers.push(Of { index, object, spec }),
                Spec::Gateway(spec) => world.gateways.push(Of { index, object, spec }),
                Spec::VirtualService(spec) => world.services.push(Of { index, object, spec }),
                Spec::RateLimitPolicy(spec) => world.limits.push(Of { index, object, spec }),
                Spec::RequestGuard(spec) => world.guards.push(Of { index, object, spec }),
                Spec::RetryPolicy(spec) => world.repeats.push(Of { index, object, spec }),
                Spec::FaultExperiment(spec) => world.experiments.push(Of { index, object, spec }),
                Spec::ServiceEntry(spec) => world.entries.push(Of { index, object, spec }),
                Spec::DestinationRule(spec) => world.rules.push(Of { index, object, spec }),
                Spec::MeshConfig(spec) => world.mesh = spec.clone(),
            }
        }
        world
    }
}

// Derived, they would ask the same of the kind.
impl<T> Clone for Of<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Of<'_, T> {}

impl<'o, T> Of<'o, T> {
    pub(super) fn namespace(&self) -> &'o str {
        &self.object.meta.namespace
    }

    /// `Kind namespace/name`, and where it stands.
    pub(super) fn named(&self) -> String {
        let place = self.object.position.as_ref().map(|p| format!(" at {}:{}", p.file, p.line));
        format!("{}{}", title(self.object), place.unwrap_or_default())
    }
}

/// Objects that select workloads.
pub(super) trait Selecting {
    fn selector(&self) -> &Selector;
}

macro_rules! selecting {
    ($($spec:ty),*) => {
        $(impl Selecting for $spec {
            fn selector(&self) -> &Selector {
                &self.selector
            }
        })*
    };
}

selecting!(
    AuthorizationPolicySpec,
    JwtPolicySpec,
    RequestAuthenticationSpec,
    PeerAuthenticationSpec,
    GatewaySpec,
    RateLimitPolicySpec,
    RequestGuardSpec
);

pub(super) fn title(object: &Object) -> String {
    format!("{} {}/{}", object.spec.kind().name(), object.meta.namespace, object.meta.name)
}
