use std::time::Duration;

use palisade_policy::kind::retry_policy::{Because, DuplicatesSpec, OnDuplicate, RepeatRuleSpec};
use palisade_policy::kind::{Named, RetryPolicySpec};

use super::WireError;
use super::scalar::{each, enumeration, meta, milliseconds, named, unspecified};
use crate::v1;
use crate::v1::retry_policy as wire;

impl From<&Named<RetryPolicySpec>> for v1::RetryPolicy {
    fn from(object: &Named<RetryPolicySpec>) -> Self {
        Self {
            meta: meta(&object.meta),
            host: object.spec.host.clone(),
            rules: object.spec.rules.iter().map(rule_to_wire).collect(),
            duplicates: object.spec.duplicates.as_ref().map(duplicates_to_wire),
        }
    }
}

impl TryFrom<v1::RetryPolicy> for Named<RetryPolicySpec> {
    type Error = WireError;

    fn try_from(object: v1::RetryPolicy) -> Result<Self, WireError> {
        let rules = each("rules", object.rules, rule_from_wire)?;
        let duplicates = object.duplicates.map(duplicates_from_wire).transpose();
        let duplicates = duplicates.map_err(|error| error.within("duplicates"))?;
        named(object.meta, RetryPolicySpec { host: object.host, rules, duplicates })
    }
}

fn rule_to_wire(rule: &RepeatRuleSpec) -> wire::Rule {
    let because = match &rule.because {
        Because::Key(name) => wire::rule::Because::IdempotencyKey(name.clone()),
        Because::Idempotent => wire::rule::Because::Idempotent(wire::Nothing {}),
    };
    wire::Rule { r#match: rule.matches.iter().map(Into::into).collect(), because: Some(because) }
}

fn rule_from_wire(rule: wire::Rule) -> Result<RepeatRuleSpec, WireError> {
    let because = match rule.because.ok_or_else(|| unspecified("because"))? {
        wire::rule::Because::IdempotencyKey(name) => Because::Key(name),
        wire::rule::Because::Idempotent(wire::Nothing {}) => Because::Idempotent,
    };
    Ok(RepeatRuleSpec { matches: rule.r#match.into_iter().map(Into::into).collect(), because })
}

fn duplicates_to_wire(duplicates: &DuplicatesSpec) -> wire::Duplicates {
    let on_duplicate = match duplicates.on_duplicate {
        OnDuplicate::Record => wire::OnDuplicate::Record,
        OnDuplicate::Refuse => wire::OnDuplicate::Refuse,
    };
    wire::Duplicates {
        window_ms: duplicates.window.map(milliseconds),
        max_keys: duplicates.max_keys,
        on_duplicate: on_duplicate.into(),
    }
}

fn duplicates_from_wire(duplicates: wire::Duplicates) -> Result<DuplicatesSpec, WireError> {
    let on_duplicate = match enumeration("on_duplicate", duplicates.on_duplicate)? {
        wire::OnDuplicate::Unspecified => return Err(unspecified("on_duplicate")),
        wire::OnDuplicate::Record => OnDuplicate::Record,
        wire::OnDuplicate::Refuse => OnDuplicate::Refuse,
    };
    Ok(DuplicatesSpec {
        window: duplicates.window_ms.map(Duration::from_millis),
        max_keys: duplicates.max_keys,
        on_duplicate,
    })
}
