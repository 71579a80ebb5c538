use palisade_policy::kind::authorization_policy::{Action, Condition, Operation, Rule, Source};
use palisade_policy::kind::{AuthorizationPolicySpec, Named};

use super::WireError;
use super::scalar::{enumeration, meta, named, unspecified};
use crate::v1;
use crate::v1::authorization_policy as wire;

impl From<&Named<AuthorizationPolicySpec>> for v1::AuthorizationPolicy {
    fn from(policy: &Named<AuthorizationPolicySpec>) -> Self {
        let action = match policy.spec.action {
            Action::Allow => wire::Action::Allow,
            Action::Deny => wire::Action::Deny,
            Action::Audit => wire::Action::Audit,
        };
        Self {
            meta: meta(&policy.meta),
            selector: policy.spec.selector.clone(),
            action: action.into(),
            rules: policy.spec.rules.iter().map(rule_to_wire).collect(),
        }
    }
}

impl TryFrom<v1::AuthorizationPolicy> for Named<AuthorizationPolicySpec> {
    type Error = WireError;

    fn try_from(policy: v1::AuthorizationPolicy) -> Result<Self, WireError> {
        let action = match enumeration("action", policy.action)? {
            wire::Action::Unspecified => return Err(unspecified("action")),
            wire::Action::Allow => Action::Allow,
            wire::Action::Deny => Action::Deny,
            wire::Action::Audit => Action::Audit,
        };
        let rules = policy.rules.into_iter().map(rule_from_wire).collect();
        named(policy.meta, AuthorizationPolicySpec { selector: policy.selector, action, rules })
    }
}

fn rule_to_wire(rule: &Rule) -> wire::Rule {
    wire::Rule {
        from: rule.from.iter().cloned().map(source_to_wire).collect(),
        to: rule.to.iter().cloned().map(operation_to_wire).collect(),
        when: rule
            .when
            .iter()
            .cloned()
            .map(|Condition { key, values, not_values }| wire::Condition { key, values, not_values })
            .collect(),
    }
}

fn rule_from_wire(rule: wire::Rule) -> Rule {
    Rule {
        from: rule.from.into_iter().map(source_from_wire).collect(),
        to: rule.to.into_iter().map(operation_from_wire).collect(),
        when: rule
            .when
            .into_iter()
            .map(|wire::Condition { key, values, not_values }| Condition { key, values, not_values })
            .collect(),
    }
}

/// The same fields in another type. Written without `..`, so that a field that one side lacks does not compile.
macro_rules! same_fields {
    ($name:ident, $back:ident, $model:path, $wire:path, { $($field:ident),* $(,)? }) => {
        fn $name(model: $model) -> $wire {
            let $model { $($field),* } = model;
            $wire { $($field),* }
        }

        fn $back(wire: $wire) -> $model {
            let $wire { $($field),* } = wire;
            $model { $($field),* }
        }
    };
}

same_fields!(source_to_wire, source_from_wire, Source, wire::Source, {
    principals, not_principals, request_principals, not_request_principals, namespaces, not_namespaces,
    service_accounts, not_service_accounts, trust_domains, not_trust_domains, ip_blocks, not_ip_blocks,
    remote_ip_blocks, not_remote_ip_blocks,
});

same_fields!(operation_to_wire, operation_from_wire, Operation, wire::Operation, {
    hosts, not_hosts, ports, not_ports, methods, not_methods, paths, not_paths,
});
