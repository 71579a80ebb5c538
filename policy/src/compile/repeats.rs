//! The RetryPolicy that counts for a host.

use std::sync::Arc;

use hashbrown::HashMap;

use super::report;
use crate::finding::Findings;
use crate::kind::retry_policy::{self, Repeats};
use crate::kind::{Kind, Named};
use crate::projection::Projection;
use crate::set::names::resolve;

/// By namespace and by host as it is known there.
pub(super) struct ByHost<'p> {
    policies: HashMap<(String, String), Arc<Repeats>>,
    root_namespace: &'p str,
}

impl<'p> ByHost<'p> {
    pub(super) fn new(projection: &'p Projection, findings: &mut Findings) -> Self {
        let mut policies = HashMap::new();
        for Named { meta, spec } in &projection.retry_policies {
            let object = format!("{} {}/{}", Kind::RetryPolicy.name(), meta.namespace, meta.name);
            report(findings, &object, |p| {
                let repeats = Arc::new(retry_policy::build(meta, spec, p));
                for host in resolve(&spec.host, &meta.namespace) {
                    policies.entry((meta.namespace.clone(), host)).or_insert_with(|| Arc::clone(&repeats));
                }
            });
        }
        Self { policies, root_namespace: &projection.root_namespace }
    }

    /// As with DestinationRules: the caller's namespace first, then the host's, then the root. It counts as a whole.
    pub(super) fn find(
        &self,
        host: &str,
        own_namespace: &str,
        host_namespace: &str,
    ) -> Option<&Arc<Repeats>> {
        if self.policies.is_empty() {
            return None;
        }
        let namespaces = [own_namespace, host_namespace, self.root_namespace];
        namespaces
            .into_iter()
            .find_map(|namespace| self.policies.get(&(namespace.to_owned(), host.to_owned())))
    }
}
