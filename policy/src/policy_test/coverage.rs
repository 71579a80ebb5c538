//! Which rules the requests of tests matched.

use std::collections::HashSet;

use serde::Serialize;

use crate::decision::RuleRef;
use crate::explain::{Mesh, RulePlace};
use crate::kind::{Kind, Spec};

/// Of AuthorizationPolicies: those that decide, AUDIT and dry runs alike.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Coverage {
    pub rules: usize,
    /// Rules that matched at least one request.
    pub exercised: usize,
    pub unexercised: Vec<RulePlace>,
}

impl Coverage {
    pub(super) fn new(mesh: &Mesh<'_>, matched: &HashSet<RuleRef>) -> Self {
        let mut out = Self::default();
        for object in mesh.set().objects() {
            let Spec::AuthorizationPolicy(spec) = &object.spec else { continue };
            for rule in 0..spec.rules.len() {
                let (namespace, policy) = (object.meta.namespace.as_str(), object.meta.name.as_str());
                let rule = RuleRef { namespace: namespace.into(), policy: policy.into(), rule };
                out.rules += 1;
                match matched.contains(&rule) {
                    true => out.exercised += 1,
                    false => out.unexercised.push(RulePlace::of(mesh, Kind::AuthorizationPolicy, &rule)),
                }
            }
        }
        out
    }

    /// 0 to 100, rounded down; 100 where there are no rules.
    pub fn percent(&self) -> usize {
        self.exercised.saturating_mul(100).checked_div(self.rules).unwrap_or(100)
    }
}
