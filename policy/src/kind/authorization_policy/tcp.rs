//! What a policy says of a connection whose content is not read: no method, path, host, header or token is there.
//!
//! Istio's answer: a DENY or AUDIT rule loses what it says of HTTP and keeps the rest, so that it catches more; an ALLOW
//! rule that says anything of HTTP, in whatever alternative, never matches. Either way less is let in.

use super::build::Builder;
use super::clause::{Clause, Reading};
use super::rule_set::CompiledRule;
use super::{AuthorizationPolicySpec, Condition, Operation, Rule, Source};
use crate::finding::problem::Problems;
use crate::kind::Meta;
use crate::kind::trust_domains::TrustDomains;

/// Compiles the rules for TCP. The spec was checked by [`super::build::build`], whose findings are not repeated.
pub(crate) fn build(
    meta: &Meta,
    spec: &AuthorizationPolicySpec,
    domains: &TrustDomains,
) -> Vec<CompiledRule> {
    let mut problems = Problems::default();
    let mut builder = Builder::new(meta, spec.action, domains, &mut problems);
    let permits = builder.reading == Reading::Permitting;
    let rules = spec.rules.iter().map(|rule| match rule.asks_http() {
        false => builder.rule(rule, ""),
        // What is left of it is never enough, and says what else such a connection lacks.
        true if permits => builder.rule(&rule.without_http(), "").and(Clause::Http),
        true => builder.rule(&rule.without_http(), ""),
    });
    rules.collect()
}

impl Rule {
    /// Whether any part of it looks at what only requests of HTTP have.
    fn asks_http(&self) -> bool {
        self.asks_for_token()
            || self.to.iter().any(|operation| operation.http().iter().any(|values| !values.is_empty()))
            || self.when.iter().any(Condition::is_http)
    }

    fn without_http(&self) -> Self {
        let source = |s: &Source| Source {
            request_principals: Vec::new(),
            not_request_principals: Vec::new(),
            ..s.clone()
        };
        let operation = |o: &Operation| Operation {
            ports: o.ports.clone(),
            not_ports: o.not_ports.clone(),
            ..Operation::default()
        };
        Self {
            from: self.from.iter().map(source).collect(),
            to: self.to.iter().map(operation).collect(),
            when: self.when.iter().filter(|condition| !condition.is_http()).cloned().collect(),
        }
    }
}

impl Operation {
    fn http(&self) -> [&[String]; 6] {
        [&self.methods, &self.not_methods, &self.paths, &self.not_paths, &self.hosts, &self.not_hosts]
    }
}

impl Condition {
    fn is_http(&self) -> bool {
        self.key.starts_with("request.")
    }
}
