//! Identities by pattern, written as AuthorizationPolicies write principals, where one that matches nobody would be a mistake.

use palisade_identity::SpiffeId;

use super::authorization_policy::text::{Case, TextMatch, has_inner_wildcard};
use super::trust_domains::TrustDomains;
use crate::finding::code;
use crate::finding::problem::Problems;

#[derive(Debug)]
pub(crate) struct Principals(Box<[TextMatch]>);

impl Principals {
    pub(crate) fn new(patterns: &[String], domains: &TrustDomains) -> Self {
        let expanded = patterns.iter().flat_map(|pattern| domains.expand(pattern));
        Self(expanded.map(|pattern| TextMatch::new(&pattern)).collect())
    }

    pub(crate) fn contain(&self, id: &SpiffeId) -> bool {
        self.0.iter().any(|pattern| pattern.matches(id.principal().as_bytes(), Case::Exact))
    }
}

/// Reports patterns that no workload's id can match.
pub(crate) fn check(patterns: &[String], path: &str, problems: &mut Problems) {
    for (i, pattern) in patterns.iter().enumerate() {
        let path = format!("{path}[{i}]");
        if let Some(rest) = pattern.strip_prefix("spiffe://") {
            problems.error(code::PRINCIPAL_SCHEME, path, format!("{pattern:?} would never match"));
            problems.help(format!("principals are written without the scheme: {rest:?}"));
        } else if has_inner_wildcard(pattern) {
            problems.error(code::NEVER_MATCHES, path, format!("{pattern:?} would never match"));
            problems.help("a * stands at the start or at the end");
        } else if !pattern.contains('*') && exact(pattern).is_none() {
            problems.error(code::NEVER_MATCHES, path, format!("{pattern:?} is no workload's id"));
            problems.help("write <trust-domain>/ns/<namespace>/sa/<service-account>");
        }
    }
}

/// The one workload that a pattern without wildcard means.
pub(crate) fn exact(pattern: &str) -> Option<SpiffeId> {
    let id = SpiffeId::parse(&format!("spiffe://{pattern}")).ok()?;
    id.workload().is_some().then_some(id)
}

/// The namespace of all workloads that a pattern matches, where it says one.
pub(crate) fn namespace_of(pattern: &str) -> Option<&str> {
    let mut parts = pattern.split('/').skip(1);
    let (ns, namespace) = (parts.next()?, parts.next()?);
    // What stands last may go on behind a wildcard.
    parts.next().filter(|_| ns == "ns" && !namespace.contains('*'))?;
    Some(namespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_known_where_the_pattern_says_it_whole() {
        let rows = [
            ("corp.example/ns/shop/sa/web", Some("shop")),
            ("corp.example/ns/shop/*", Some("shop")),
            ("*/ns/shop/sa/web", Some("shop")),
            ("corp.example/ns/shop*", None),
            ("corp.example/*", None),
            ("*/sa/web", None),
            ("*", None),
        ];
        for (pattern, expected) in rows {
            assert_eq!(namespace_of(pattern), expected, "{pattern}");
        }
    }
}
