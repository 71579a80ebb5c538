//! RequestAuthentication, security.istio.io/v1: whose tokens of end users are taken, and where they are looked for.

mod check;
mod read;

use std::time::Duration;

use super::Selector;
pub(crate) use check::{check, keys};
pub(crate) use read::read;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestAuthenticationSpec {
    pub selector: Selector,
    pub rules: Vec<JwtRuleSpec>,
}

/// One issuer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JwtRuleSpec {
    pub issuer: String,
    /// Empty: any.
    pub audiences: Vec<String>,
    /// One of the two; neither where a JwtPolicy names the issuer's secret.
    pub jwks_uri: Option<String>,
    pub jwks: Option<String>,
    pub from_headers: Vec<FromHeader>,
    pub from_params: Vec<String>,
    pub from_cookies: Vec<String>,
    pub output_payload_to_header: Option<String>,
    pub output_claim_to_headers: Vec<ClaimToHeader>,
    pub forward_original_token: bool,
    /// Claims whose text is a list with spaces, besides those that always are.
    pub space_delimited_claims: Vec<String>,
    /// For one fetch of the keys.
    pub timeout: Option<Duration>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FromHeader {
    pub name: String,
    /// What stands before the token; empty: nothing.
    pub prefix: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClaimToHeader {
    pub header: String,
    /// A name, or names joined by dots where claims are nested.
    pub claim: String,
}
