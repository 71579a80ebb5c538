use std::time::Duration;

use palisade_policy::kind::request_authentication::{ClaimToHeader, FromHeader, JwtRuleSpec};
use palisade_policy::kind::{Named, RequestAuthenticationSpec};

use super::WireError;
use super::scalar::{meta, milliseconds, named, optional_text};
use crate::v1;
use crate::v1::request_authentication as wire;

impl From<&Named<RequestAuthenticationSpec>> for v1::RequestAuthentication {
    fn from(object: &Named<RequestAuthenticationSpec>) -> Self {
        Self {
            meta: meta(&object.meta),
            selector: object.spec.selector.clone(),
            rules: object.spec.rules.iter().map(rule_to_wire).collect(),
        }
    }
}

fn rule_to_wire(rule: &JwtRuleSpec) -> wire::Rule {
    let header = |from: &FromHeader| wire::Header { name: from.name.clone(), prefix: from.prefix.clone() };
    let claim = |to: &ClaimToHeader| wire::Claim { header: to.header.clone(), claim: to.claim.clone() };
    wire::Rule {
        issuer: rule.issuer.clone(),
        audiences: rule.audiences.clone(),
        jwks_uri: rule.jwks_uri.clone().unwrap_or_default(),
        jwks: rule.jwks.clone().unwrap_or_default(),
        from_headers: rule.from_headers.iter().map(header).collect(),
        from_params: rule.from_params.clone(),
        from_cookies: rule.from_cookies.clone(),
        output_payload_to_header: rule.output_payload_to_header.clone().unwrap_or_default(),
        output_claim_to_headers: rule.output_claim_to_headers.iter().map(claim).collect(),
        forward_original_token: rule.forward_original_token,
        space_delimited_claims: rule.space_delimited_claims.clone(),
        timeout_ms: rule.timeout.map(milliseconds),
    }
}

impl TryFrom<v1::RequestAuthentication> for Named<RequestAuthenticationSpec> {
    type Error = WireError;

    fn try_from(object: v1::RequestAuthentication) -> Result<Self, WireError> {
        let rules = object.rules.into_iter().map(rule_from_wire).collect();
        named(object.meta, RequestAuthenticationSpec { selector: object.selector, rules })
    }
}

/// What the texts mean is checked where documents are: by the kind.
fn rule_from_wire(rule: wire::Rule) -> JwtRuleSpec {
    let header = |from: wire::Header| FromHeader { name: from.name, prefix: from.prefix };
    let claim = |to: wire::Claim| ClaimToHeader { header: to.header, claim: to.claim };
    JwtRuleSpec {
        issuer: rule.issuer,
        audiences: rule.audiences,
        jwks_uri: optional_text(rule.jwks_uri),
        jwks: optional_text(rule.jwks),
        from_headers: rule.from_headers.into_iter().map(header).collect(),
        from_params: rule.from_params,
        from_cookies: rule.from_cookies,
        output_payload_to_header: optional_text(rule.output_payload_to_header),
        output_claim_to_headers: rule.output_claim_to_headers.into_iter().map(claim).collect(),
        forward_original_token: rule.forward_original_token,
        space_delimited_claims: rule.space_delimited_claims,
        timeout: rule.timeout_ms.map(Duration::from_millis),
    }
}
