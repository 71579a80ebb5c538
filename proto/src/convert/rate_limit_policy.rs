use std::time::Duration;

use palisade_policy::kind::rate_limit_policy::{KeyPart, LimitSpec, Mode, OnStoreFailure, Scope};
use palisade_policy::kind::{Named, RateLimitPolicySpec};

use super::WireError;
use super::scalar::{each, enumeration, meta, milliseconds, named, unspecified};
use crate::v1;
use crate::v1::rate_limit_policy as wire;

impl From<&Named<RateLimitPolicySpec>> for v1::RateLimitPolicy {
    fn from(object: &Named<RateLimitPolicySpec>) -> Self {
        Self {
            meta: meta(&object.meta),
            selector: object.spec.selector.clone(),
            limits: object.spec.limits.iter().map(limit_to_wire).collect(),
        }
    }
}

impl TryFrom<v1::RateLimitPolicy> for Named<RateLimitPolicySpec> {
    type Error = WireError;

    fn try_from(object: v1::RateLimitPolicy) -> Result<Self, WireError> {
        let limits = each("limits", object.limits, limit_from_wire)?;
        named(object.meta, RateLimitPolicySpec { selector: object.selector, limits })
    }
}

fn limit_to_wire(limit: &LimitSpec) -> wire::Limit {
    let mode = match limit.mode {
        Mode::Enforce => wire::Mode::Enforce,
        Mode::Shadow => wire::Mode::Shadow,
        Mode::Flag => wire::Mode::Flag,
    };
    let part = |part: &KeyPart| match part {
        KeyPart::Claim(name) => wire::key_part::Part::Claim(name.clone()),
        KeyPart::Principal => wire::key_part::Part::Principal(wire::Nothing {}),
        KeyPart::Address => wire::key_part::Part::Address(wire::Nothing {}),
        KeyPart::Header(name) => wire::key_part::Part::Header(name.clone()),
    };
    wire::Limit {
        name: limit.name.clone(),
        r#match: limit.matches.iter().map(Into::into).collect(),
        key: limit.key.iter().map(|p| wire::KeyPart { part: Some(part(p)) }).collect(),
        limit: limit.limit,
        window_ms: milliseconds(limit.window),
        burst: limit.burst,
        cost: limit.cost,
        mode: mode.into(),
        untold: !limit.headers,
        mesh: scope_to_wire(limit.scope).into(),
    }
}

fn scope_to_wire(scope: Scope) -> wire::OnStoreFailure {
    match scope {
        Scope::Instance => wire::OnStoreFailure::Unspecified,
        Scope::Mesh(OnStoreFailure::Local) => wire::OnStoreFailure::Local,
        Scope::Mesh(OnStoreFailure::Deny) => wire::OnStoreFailure::Deny,
        Scope::Mesh(OnStoreFailure::Allow) => wire::OnStoreFailure::Allow,
    }
}

fn scope_from_wire(mesh: wire::OnStoreFailure) -> Scope {
    match mesh {
        wire::OnStoreFailure::Unspecified => Scope::Instance,
        wire::OnStoreFailure::Local => Scope::Mesh(OnStoreFailure::Local),
        wire::OnStoreFailure::Deny => Scope::Mesh(OnStoreFailure::Deny),
        wire::OnStoreFailure::Allow => Scope::Mesh(OnStoreFailure::Allow),
    }
}

fn limit_from_wire(limit: wire::Limit) -> Result<LimitSpec, WireError> {
    let mode = match enumeration("mode", limit.mode)? {
        wire::Mode::Unspecified => return Err(unspecified("mode")),
        wire::Mode::Enforce => Mode::Enforce,
        wire::Mode::Shadow => Mode::Shadow,
        wire::Mode::Flag => Mode::Flag,
    };
    let key = each("key", limit.key, |part| match part.part {
        Some(wire::key_part::Part::Claim(name)) => Ok(KeyPart::Claim(name)),
        Some(wire::key_part::Part::Principal(_)) => Ok(KeyPart::Principal),
        Some(wire::key_part::Part::Address(_)) => Ok(KeyPart::Address),
        Some(wire::key_part::Part::Header(name)) => Ok(KeyPart::Header(name)),
        None => Err(unspecified("part")),
    })?;
    Ok(LimitSpec {
        name: limit.name,
        matches: limit.r#match.into_iter().map(Into::into).collect(),
        key,
        limit: limit.limit,
        window: Duration::from_millis(limit.window_ms),
        burst: limit.burst,
        cost: limit.cost,
        scope: scope_from_wire(enumeration("mesh", limit.mesh)?),
        mode,
        headers: !limit.untold,
    })
}
