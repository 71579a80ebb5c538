//! What a RequestAuthentication must be beside well-formed. YAML and wire come through here alike.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use http::{HeaderName, Uri};

use super::{JwtRuleSpec, RequestAuthenticationSpec};
use crate::finding::code;
use crate::finding::problem::Problems;
use crate::kind::jwt_policy::IssuerSpec;
use crate::request::json;

/// For one fetch. Callers may be waiting for it.
const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(30);

/// Headers that a claim must not take the place of: framing, routing, credentials of their own, and what proxies say.
const RESERVED: &[&str] = &[
    "authorization",
    "connection",
    "content-length",
    "content-type",
    "cookie",
    "forwarded",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-forwarded-client-cert",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
    "x-request-id",
];

pub(crate) fn check(spec: &RequestAuthenticationSpec, problems: &mut Problems) {
    for (i, rule) in spec.rules.iter().enumerate() {
        check_rule(rule, &format!("spec.jwtRules[{i}]"), problems);
    }
}

fn check_rule(rule: &JwtRuleSpec, path: &str, problems: &mut Problems) {
    if rule.issuer.is_empty() {
        problems.error(code::EMPTY_VALUE, format!("{path}.issuer"), "the issuer is empty");
    }
    check_keys(rule, path, problems);
    if rule.timeout.is_some_and(|timeout| !TIMEOUT.contains(&timeout)) {
        let message = "the duration is not within 100ms and 30s";
        problems.error(code::JWT_RANGE, format!("{path}.timeout"), message);
    }
    for (i, _) in rule.space_delimited_claims.iter().enumerate().filter(|(_, name)| name.is_empty()) {
        let at = format!("{path}.spaceDelimitedClaims[{i}]");
        problems.error(code::EMPTY_VALUE, at, "a claim has a name");
    }
    for (i, header) in rule.from_headers.iter().enumerate() {
        if !is_name(&header.name) {
            let at = format!("{path}.fromHeaders[{i}].name");
            problems.error(code::JWT_LOCATION, at, format!("{:?} is no name of a header", header.name));
        }
    }
    let claims = rule.output_claim_to_headers.iter().map(|output| &output.header);
    for name in claims.chain(&rule.output_payload_to_header) {
        let lower = name.to_ascii_lowercase().replace('_', "-");
        if !is_plain_name(name) || RESERVED.contains(&lower.as_str()) || lower.starts_with("x-palisade-") {
            let message = format!("{name:?} is no header that a claim may be written to");
            problems.error(code::JWT_OUTPUT, path, message);
            problems.help("choose a name of your own, for example x-jwt-subject");
        }
    }
    for output in &rule.output_claim_to_headers {
        if output.claim.split('.').any(str::is_empty) {
            let message = format!("{:?} is no path of a claim", output.claim);
            problems.error(code::JWT_OUTPUT, path, message);
        }
    }
}

/// What the rule says of its keys, by itself. Whether that is enough depends on the JwtPolicies beside it: [`keys`].
fn check_keys(rule: &JwtRuleSpec, path: &str, problems: &mut Problems) {
    if rule.jwks_uri.is_some() && rule.jwks.is_some() {
        let message = "a rule names its keys by one of jwksUri and jwks, not by both";
        problems.error(code::JWT_KEYS, path, message);
    }
    if let Some(uri) = &rule.jwks_uri
        && Url::parse(uri).is_none()
    {
        let message = "keys are fetched by https:// only: who answers decides who may log in";
        problems.error(code::JWT_KEYS, format!("{path}.jwksUri"), message);
        problems.help("write an https:// URL, or the keys themselves into jwks");
    }
    if let Some(text) = &rule.jwks {
        let set = json::object(text.as_bytes()).ok();
        if !set.is_some_and(|set| set.get("keys").is_some_and(serde_json::Value::is_array)) {
            let message = "the text is no JWK set: a JSON object with an array \"keys\", no name twice";
            problems.error(code::JWT_KEYS, format!("{path}.jwks"), message);
        }
    }
}

/// Whether the rule's keys can be had, given what a JwtPolicy says of its issuer for the same workload.
pub(crate) fn keys(rule: &JwtRuleSpec, issuer: Option<&IssuerSpec>, path: &str, problems: &mut Problems) {
    let secret = issuer.is_some_and(|issuer| issuer.secret_file.is_some());
    let private = issuer.is_some_and(|issuer| issuer.keys.allow_private_addresses);
    match (&rule.jwks_uri, &rule.jwks) {
        (None, None) if secret => {}
        (None, None) => {
            let message = "a rule names its keys by exactly one of jwksUri and jwks";
            problems.error(code::JWT_KEYS, path, message);
            problems.help(
                "jwksUri is in the issuer's /.well-known/openid-configuration; for HS256 a JwtPolicy that selects the \
                 same workloads gives the issuer a secretFile",
            );
        }
        _ if secret => {
            let message = "the issuer has a secretFile in a JwtPolicy: with public keys beside it, one could pass for \
                           the other";
            problems.error(code::JWT_KEYS, path, message);
            problems.help("leave jwksUri and jwks out, or take the secretFile out of the JwtPolicy");
        }
        (Some(uri), _) if !private && Url::parse(uri).is_some_and(|url| !url.tls || url.private) => {
            let message = "keys are fetched by https:// and from public addresses only: who answers decides who may \
                           log in";
            problems.error(code::JWT_KEYS, format!("{path}.jwksUri"), message);
            problems.help(
                "write an https:// URL, or keys: {allowPrivateAddresses: true} for the issuer into a JwtPolicy that \
                 selects the same workloads",
            );
        }
        _ => {}
    }
}

/// What can be seen of a URL without asking anybody.
struct Url {
    tls: bool,
    private: bool,
}

impl Url {
    fn parse(text: &str) -> Option<Self> {
        let uri: Uri = text.parse().ok()?;
        let tls = match uri.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        // Credentials in a URL end up in logs.
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'))?;
        // A port that is no number.
        if authority.port_u16().is_none() && authority.as_str() != authority.host() {
            return None;
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        let private = match host.parse() {
            Ok(IpAddr::V4(address)) => address.is_loopback() || address.is_private(),
            Ok(IpAddr::V6(address)) => address.is_loopback() || address.is_unique_local(),
            Err(_name) => host == "localhost" || host.ends_with(".localhost"),
        };
        (!host.is_empty()).then_some(Self { tls, private })
    }
}

/// A name of a header as Istio takes it for claims: servers drop or rewrite names of other characters.
fn is_plain_name(name: &str) -> bool {
    is_name(name) && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
}

fn is_name(name: &str) -> bool {
    HeaderName::from_bytes(name.as_bytes()).is_ok()
}
