//! What a RequestAuthentication must be beside well-formed. YAML and wire come through here alike.

use http::{HeaderName, Uri};

use super::{JwtRuleSpec, RequestAuthenticationSpec};
use crate::finding::code;
use crate::finding::problem::Problems;
use crate::request::json;

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
    match (&rule.jwks_uri, &rule.jwks) {
        (Some(uri), None) => {
            let uri: Option<Uri> = uri.parse().ok();
            let https = uri.is_some_and(|uri| uri.scheme_str() == Some("https") && uri.authority().is_some());
            if !https {
                let message = "keys are fetched by https:// only: who answers decides who may log in";
                problems.error(code::JWT_KEYS, format!("{path}.jwksUri"), message);
                problems.help("write an https:// URL, or the keys themselves into jwks");
            }
        }
        (None, Some(text)) => {
            let set = json::object(text.as_bytes()).ok();
            if !set.is_some_and(|set| set.get("keys").is_some_and(serde_json::Value::is_array)) {
                let message = "the text is no JWK set: a JSON object with an array \"keys\", no name twice";
                problems.error(code::JWT_KEYS, format!("{path}.jwks"), message);
            }
        }
        (None, None) | (Some(_), Some(_)) => {
            let message = "a rule names its keys by exactly one of jwksUri and jwks";
            problems.error(code::JWT_KEYS, path, message);
            problems.help("jwksUri is in the issuer's /.well-known/openid-configuration");
        }
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
        if !is_name(name) || RESERVED.contains(&lower.as_str()) || lower.starts_with("x-palisade-") {
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

fn is_name(name: &str) -> bool {
    HeaderName::from_bytes(name.as_bytes()).is_ok()
}
