//! JwtPolicy, palisade.mesh/v1: how tokens of an issuer are verified beyond what RequestAuthentication can say, and
//! which requests need one.

pub mod access;
mod build;
mod read;

use std::time::Duration;

use super::Selector;
use super::request_match::MatchItem;
pub(crate) use build::{PUBLIC_ALGORITHMS, SECRET_ALGORITHM, build};
pub(crate) use read::read;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JwtPolicySpec {
    pub selector: Selector,
    pub issuers: Vec<IssuerSpec>,
    pub rules: Vec<AccessRuleSpec>,
}

/// For every rule about this issuer, of whatever RequestAuthentication, on the same workload. Absent: as without.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IssuerSpec {
    pub issuer: String,
    /// Names of RFC 7518. Empty: all with a public key, or HS256 where there is a secret.
    pub algorithms: Vec<String>,
    /// A file on the proxy's host with the secret of HS256.
    pub secret_file: Option<String>,
    pub clock_skew: Option<Duration>,
    /// Since `iat`, which is then required.
    pub max_token_age: Option<Duration>,
    pub required_claims: Vec<String>,
    pub max_token_bytes: Option<u64>,
    pub keys: KeysSpec,
}

/// How keys are looked after.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeysSpec {
    pub refresh_interval: Option<Duration>,
    pub refetch_interval_min: Option<Duration>,
    /// Key sets may be fetched from loopback and private networks, and there by `http://` too.
    pub allow_private_addresses: bool,
    /// A file on the proxy's host with the roots that the server of the key set is checked by; instead of the system's.
    pub ca_certificates: Option<String>,
}

/// What requests must bring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessRuleSpec {
    pub name: String,
    /// Empty: every request.
    pub matches: Vec<MatchItem>,
    pub access: Access,
    /// All of them.
    pub scopes: Vec<String>,
    /// At least one of them; empty: whatever the RequestAuthentication asks for.
    pub audiences: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// No token is needed. One that is sent must be good all the same.
    Public,
    Token,
}
