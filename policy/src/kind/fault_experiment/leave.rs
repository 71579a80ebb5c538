//! What the mesh gives leave for, whatever experiments ask. Projection and compilation go by it alike.

use palisade_identity::SpiffeId;

use super::FaultExperimentSpec;
use crate::kind::authorization_policy::text::{Case, TextMatch};
use crate::kind::principals::Principals;
use crate::kind::trust_domains::TrustDomains;
use crate::kind::{MeshConfigSpec, Meta};

/// For the proxy of one caller.
pub(crate) struct Leave<'p> {
    caller: &'p SpiffeId,
    namespace: &'p str,
    root_namespace: &'p str,
    mesh: &'p MeshConfigSpec,
    domains: TrustDomains,
    protected: Principals,
}

impl<'p> Leave<'p> {
    pub(crate) fn new(caller: &'p SpiffeId, root_namespace: &'p str, mesh: &'p MeshConfigSpec) -> Self {
        let domains = TrustDomains::new(caller.trust_domain().as_str(), &mesh.trust_domain_aliases);
        let protected = Principals::new(&mesh.faults.protected, &domains);
        let namespace = caller.workload().map(|name| name.namespace.as_str()).unwrap_or_default();
        Self { caller, namespace, root_namespace, mesh, domains, protected }
    }

    /// Whether an experiment is for this caller: by its namespace, and by the callers that it names.
    pub(crate) fn is_named(&self, meta: &Meta, spec: &FaultExperimentSpec) -> bool {
        [self.namespace, self.root_namespace].contains(&meta.namespace.as_str())
            && Principals::new(&spec.callers, &self.domains).contain(self.caller)
    }

    /// Whether the mesh lets it be carried out here. What is too long is left out, never shortened: nobody asked for that.
    pub(crate) fn is_given(&self, spec: &FaultExperimentSpec) -> bool {
        spec.duration <= self.mesh.faults.max_duration && !self.protects(self.caller)
    }

    pub(crate) fn protects(&self, id: &SpiffeId) -> bool {
        self.protected.contain(id)
    }
}

/// Whether a pattern covers a service account in the mesh's own trust domain, where nobody knows yet how that is called: the
/// pattern's own is taken for it. Rather too often than not.
pub(crate) fn protects_account(pattern: &str, namespace: &str, account: &str) -> bool {
    let domain = pattern.split('/').next().unwrap_or_default().trim_matches('*');
    let domain = if domain.is_empty() { "any" } else { domain };
    let id = format!("{domain}/ns/{namespace}/sa/{account}");
    TextMatch::new(pattern).matches(id.as_bytes(), Case::Exact)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_covers_an_account_whatever_the_own_domain_is_called() {
        let rows = [
            ("corp.example/ns/vault/sa/vault", true),
            ("corp.example/ns/vault/sa/*", true),
            ("corp.example/ns/vault/*", true),
            ("corp.example/*", true),
            ("corp*", true),
            ("*", true),
            ("*/ns/vault/sa/vault", true),
            ("*.example/ns/vault/sa/vault", true),
            ("*/sa/vault", true),
            ("*vault", true),
            ("cluster.local/ns/vault/sa/vault", true),
            ("corp.example/ns/vault/sa/vault2", false),
            ("corp.example/ns/vault2/sa/*", false),
            ("corp.example/ns/vaul", false),
            ("*/sa/other", false),
        ];
        for (pattern, expected) in rows {
            assert_eq!(protects_account(pattern, "vault", "vault"), expected, "{pattern}");
        }
    }
}
