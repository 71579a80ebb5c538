//! Lint of meaning: for each rule what it finds, and what is near to that and is meant.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

#[path = "../support/mod.rs"]
mod support;

mod access;
mod destinations;
mod edge;
mod ignoring;
mod posture;
mod properties;
mod rules;
mod traffic;

use std::time::SystemTime;

use palisade_policy::Severity;
use palisade_policy::lint::{Report, lint};
use support::parse_ok;

/// A Gateway of the edge in the namespace bank, and default deny for the whole mesh.
pub(crate) const EDGE: &str = "---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: public, namespace: bank}
spec:
  selector: {app: edge}
  servers:
  - {port: {number: 443, name: https, protocol: HTTPS}, hosts: ['*'], tls: {mode: SIMPLE, credentialName: api}}
";

/// Mutual TLS for everybody.
pub(crate) const STRICT: &str = "---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: mtls-strict, namespace: palisade-system}
spec: {mtls: {mode: STRICT}}
";

/// Nobody without a token passes the edge.
pub(crate) const TOKENS: &str = "---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: tokens, namespace: bank}
spec: {selector: {matchLabels: {app: edge}}, action: DENY, rules: [{from: [{source: {notRequestPrincipals: ['*']}}]}]}
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: users, namespace: bank}
spec: {selector: {matchLabels: {app: edge}}, jwtRules: [{issuer: 'https://auth.example', jwksUri: 'https://auth.example/k'}]}
";

/// A document of the namespace bank. `spec` is in flow style.
pub(crate) fn document(api: &str, kind: &str, name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: {api}\nkind: {kind}\nmetadata: {{name: {name}, namespace: bank}}\nspec: {spec}\n"
    )
}

pub(crate) fn policy(name: &str, spec: &str) -> String {
    document("security.istio.io/v1", "AuthorizationPolicy", name, spec)
}

pub(crate) fn routes(http: &str) -> String {
    let spec = format!("{{hosts: ['api.example'], gateways: [public], http: [{http}]}}");
    document("networking.istio.io/v1", "VirtualService", "api", &spec)
}

pub(crate) fn limits(spec: &str) -> String {
    document("palisade.mesh/v1", "RateLimitPolicy", "limits", spec)
}

/// When nothing has begun yet.
pub(crate) const NOW: SystemTime = SystemTime::UNIX_EPOCH;

#[track_caller]
pub(crate) fn report(text: &str) -> Report {
    lint(parse_ok(text).0.objects(), NOW)
}

/// Code and path of each finding, in the order of the report.
#[track_caller]
pub(crate) fn found(text: &str) -> Vec<(&'static str, String)> {
    report(text).findings.0.into_iter().map(|f| (f.code, f.path)).collect()
}

/// The paths of the findings with one code.
#[track_caller]
pub(crate) fn paths(text: &str, code: &str) -> Vec<String> {
    found(text).into_iter().filter(|(c, _)| *c == code).map(|(_, path)| path).collect()
}

/// Each row: what is written, and the paths of the findings with this code.
#[track_caller]
pub(crate) fn table(code: &str, rows: &[(String, &[&str])]) {
    for (text, expected) in rows {
        assert_eq!(paths(text, code), *expected, "{code} in\n{text}");
    }
}

#[track_caller]
pub(crate) fn severity(text: &str, code: &str) -> Severity {
    report(text).findings.0.iter().find(|f| f.code == code).unwrap().severity
}
