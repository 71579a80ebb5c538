//! JwtPolicy: what is taken, what is refused, what a token rule comes to, and which requests need a token.

#![expect(clippy::unwrap_used, clippy::panic, reason = "test code")]

#[path = "../support/mod.rs"]
mod support;

mod access;
mod issuers;

use support::findings;

/// A `kind: JwtPolicy` in the namespace `bank`.
fn policy(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: palisade.mesh/v1\nkind: JwtPolicy\n\
         metadata: {{name: {name}, namespace: bank}}\nspec: {{{spec}}}\n"
    )
}

/// A RequestAuthentication that takes tokens of `https://auth.example`.
fn reader(keys: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: RequestAuthentication\n\
         metadata: {{name: users, namespace: bank}}\nspec: {{jwtRules: [{{issuer: 'https://auth.example'{keys}}}]}}\n"
    )
}

const URI: &str = ", jwksUri: 'https://auth.example/keys'";

/// All codes that one text is refused or warned with, in their order.
fn codes(text: &str) -> Vec<&'static str> {
    findings(text).0.iter().map(|finding| finding.code).collect()
}
