use std::time::Duration;

use palisade_policy::kind::jwt_policy::{Access, AccessRuleSpec, IssuerSpec, KeysSpec};
use palisade_policy::kind::{JwtPolicySpec, Named};

use super::WireError;
use super::scalar::{each, enumeration, meta, milliseconds, named, optional_text, unspecified};
use crate::v1;
use crate::v1::jwt_policy as wire;

impl From<&Named<JwtPolicySpec>> for v1::JwtPolicy {
    fn from(object: &Named<JwtPolicySpec>) -> Self {
        Self {
            meta: meta(&object.meta),
            selector: object.spec.selector.clone(),
            issuers: object.spec.issuers.iter().map(issuer_to_wire).collect(),
            rules: object.spec.rules.iter().map(rule_to_wire).collect(),
        }
    }
}

impl TryFrom<v1::JwtPolicy> for Named<JwtPolicySpec> {
    type Error = WireError;

    fn try_from(object: v1::JwtPolicy) -> Result<Self, WireError> {
        let issuers = object.issuers.into_iter().map(issuer_from_wire).collect();
        let rules = each("rules", object.rules, rule_from_wire)?;
        named(object.meta, JwtPolicySpec { selector: object.selector, issuers, rules })
    }
}

fn issuer_to_wire(issuer: &IssuerSpec) -> wire::Issuer {
    let keys = &issuer.keys;
    wire::Issuer {
        issuer: issuer.issuer.clone(),
        algorithms: issuer.algorithms.clone(),
        secret_file: issuer.secret_file.clone().unwrap_or_default(),
        clock_skew_ms: issuer.clock_skew.map(milliseconds),
        max_token_age_ms: issuer.max_token_age.map(milliseconds),
        required_claims: issuer.required_claims.clone(),
        max_token_bytes: issuer.max_token_bytes,
        keys: Some(wire::Keys {
            refresh_interval_ms: keys.refresh_interval.map(milliseconds),
            refetch_interval_min_ms: keys.refetch_interval_min.map(milliseconds),
            allow_private_addresses: keys.allow_private_addresses,
            ca_certificates: keys.ca_certificates.clone().unwrap_or_default(),
        }),
    }
}

/// What texts and numbers mean is checked where documents are: by the kind.
fn issuer_from_wire(issuer: wire::Issuer) -> IssuerSpec {
    let keys = issuer.keys.unwrap_or_default();
    IssuerSpec {
        issuer: issuer.issuer,
        algorithms: issuer.algorithms,
        secret_file: optional_text(issuer.secret_file),
        clock_skew: issuer.clock_skew_ms.map(Duration::from_millis),
        max_token_age: issuer.max_token_age_ms.map(Duration::from_millis),
        required_claims: issuer.required_claims,
        max_token_bytes: issuer.max_token_bytes,
        keys: KeysSpec {
            refresh_interval: keys.refresh_interval_ms.map(Duration::from_millis),
            refetch_interval_min: keys.refetch_interval_min_ms.map(Duration::from_millis),
            allow_private_addresses: keys.allow_private_addresses,
            ca_certificates: optional_text(keys.ca_certificates),
        },
    }
}

fn rule_to_wire(rule: &AccessRuleSpec) -> wire::Rule {
    let access = match rule.access {
        Access::Public => wire::Access::Public,
        Access::Token => wire::Access::Token,
    };
    wire::Rule {
        name: rule.name.clone(),
        r#match: rule.matches.iter().map(Into::into).collect(),
        access: access.into(),
        scopes: rule.scopes.clone(),
        audiences: rule.audiences.clone(),
    }
}

fn rule_from_wire(rule: wire::Rule) -> Result<AccessRuleSpec, WireError> {
    let access = match enumeration("access", rule.access)? {
        wire::Access::Unspecified => return Err(unspecified("access")),
        wire::Access::Public => Access::Public,
        wire::Access::Token => Access::Token,
    };
    Ok(AccessRuleSpec {
        name: rule.name,
        matches: rule.r#match.into_iter().map(Into::into).collect(),
        access,
        scopes: rule.scopes,
        audiences: rule.audiences,
    })
}
