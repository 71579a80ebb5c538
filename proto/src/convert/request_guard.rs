use palisade_policy::kind::mesh_config::AmbiguousPaths;
use palisade_policy::kind::request_guard::{GuardRuleSpec, Underscores};
use palisade_policy::kind::{Named, RequestGuardSpec};

use super::WireError;
use super::scalar::{each, enumeration, meta, named, unspecified};
use crate::v1;
use crate::v1::request_guard as wire;

impl From<&Named<RequestGuardSpec>> for v1::RequestGuard {
    fn from(object: &Named<RequestGuardSpec>) -> Self {
        Self {
            meta: meta(&object.meta),
            selector: object.spec.selector.clone(),
            rules: object.spec.rules.iter().map(rule_to_wire).collect(),
        }
    }
}

impl TryFrom<v1::RequestGuard> for Named<RequestGuardSpec> {
    type Error = WireError;

    fn try_from(object: v1::RequestGuard) -> Result<Self, WireError> {
        let rules = each("rules", object.rules, rule_from_wire)?;
        named(object.meta, RequestGuardSpec { selector: object.selector, rules })
    }
}

fn rule_to_wire(rule: &GuardRuleSpec) -> wire::Rule {
    let underscores = rule.underscores.map(|handling| match handling {
        Underscores::Keep => wire::Underscores::Keep,
        Underscores::Reject => wire::Underscores::Reject,
    });
    wire::Rule {
        name: rule.name.clone(),
        r#match: rule.matches.iter().map(Into::into).collect(),
        allowed_methods: rule.allowed_methods.clone(),
        content_types: rule.content_types.clone(),
        max_body_bytes: rule.max_body_bytes,
        max_headers: rule.max_headers,
        max_header_bytes: rule.max_header_bytes,
        max_uri_bytes: rule.max_uri_bytes,
        forbid_headers: rule.forbid_headers.clone(),
        strip_headers: rule.strip_headers.clone(),
        forbid_duplicates: rule.forbid_duplicates.clone(),
        underscores: underscores.map(Into::into),
        ambiguous_paths: rule.ambiguous_paths.map(v1::mesh_config::AmbiguousPaths::from).map(Into::into),
    }
}

fn rule_from_wire(rule: wire::Rule) -> Result<GuardRuleSpec, WireError> {
    let underscores = |number| match enumeration("underscores", number)? {
        wire::Underscores::Unspecified => Err(unspecified("underscores")),
        wire::Underscores::Keep => Ok(Underscores::Keep),
        wire::Underscores::Reject => Ok(Underscores::Reject),
    };
    let ambiguous_paths = |number| {
        AmbiguousPaths::try_from(enumeration::<v1::mesh_config::AmbiguousPaths>("ambiguous_paths", number)?)
    };
    Ok(GuardRuleSpec {
        name: rule.name,
        matches: rule.r#match.into_iter().map(Into::into).collect(),
        allowed_methods: rule.allowed_methods,
        content_types: rule.content_types,
        max_body_bytes: rule.max_body_bytes,
        max_headers: rule.max_headers,
        max_header_bytes: rule.max_header_bytes,
        max_uri_bytes: rule.max_uri_bytes,
        forbid_headers: rule.forbid_headers,
        strip_headers: rule.strip_headers,
        forbid_duplicates: rule.forbid_duplicates,
        underscores: rule.underscores.map(underscores).transpose()?,
        ambiguous_paths: rule.ambiguous_paths.map(ambiguous_paths).transpose()?,
    })
}
