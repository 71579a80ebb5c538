//! Texts that stand for a pattern.

use palisade_identity::SpiffeId;

use crate::kind::authorization_policy::path::PathMatch;
use crate::kind::authorization_policy::text::{Case, TextMatch};

/// What nothing is called by.
pub(super) const OTHER: &str = "anything-else";
/// A namespace and an account that nothing is called by.
pub(super) const ELSEWHERE: &str = "elsewhere";

/// A text that fits a value of a policy.
pub(super) fn text(pattern: &str) -> String {
    match pattern.strip_prefix('*') {
        Some("") => OTHER.to_owned(),
        Some(suffix) => format!("{OTHER}{suffix}"),
        None => match pattern.strip_suffix('*') {
            Some(prefix) => format!("{prefix}{OTHER}"),
            None => pattern.to_owned(),
        },
    }
}

/// Paths that fit a value of `paths`: the shortest, and some with more behind them. None where no path fits.
pub(super) fn paths(pattern: &str) -> Vec<String> {
    let candidates = match pattern.contains('{') {
        true => vec![
            pattern.replace("{**}", "any/thing").replace("{*}", OTHER),
            pattern.replace("{**}", OTHER).replace("{*}", "1"),
        ],
        false => match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
            (Some(suffix), _) => {
                vec![format!("/{OTHER}{suffix}"), suffix.to_owned(), format!("/{OTHER}/more{suffix}")]
            }
            (None, Some(prefix)) => {
                vec![prefix.to_owned(), format!("{prefix}{OTHER}"), format!("{prefix}{OTHER}/more")]
            }
            (None, None) => vec![pattern.to_owned()],
        },
    };
    let Ok(matcher) = PathMatch::widest(pattern) else { return Vec::new() };
    candidates.into_iter().filter(|path| path.starts_with('/') && matcher.matches(path)).collect()
}

/// An identity of Istio's form that fits a value of `principals`. None where none was found.
pub(super) fn identity(pattern: &str, domain: &str) -> Option<SpiffeId> {
    let candidates: Vec<String> = match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(suffix), _) => {
            let elsewhere = format!("{domain}/ns/{ELSEWHERE}");
            let heads =
                ["", domain, &elsewhere, &format!("{elsewhere}/sa/"), &format!("{elsewhere}/sa/{OTHER}")];
            heads.iter().map(|head| format!("{head}{suffix}")).collect()
        }
        (None, Some(prefix)) => {
            let (account, whole) = (format!("sa/{OTHER}"), format!("ns/{ELSEWHERE}/sa/{OTHER}"));
            let tails = [OTHER, &account, &format!("/{account}"), &whole, &format!("/{whole}"), ""];
            let domains = format!("example/{whole}");
            tails.into_iter().chain([&*domains]).map(|tail| format!("{prefix}{tail}")).collect()
        }
        (None, None) => vec![pattern.replacen("cluster.local/", &format!("{domain}/"), 1)],
    };
    let matcher = TextMatch::new(pattern);
    let exact = !pattern.contains('*');
    let fits = |id: &SpiffeId| {
        id.workload().is_some() && (exact || matcher.matches(id.principal().as_bytes(), Case::Exact))
    };
    candidates.iter().filter_map(|text| SpiffeId::parse(&format!("spiffe://{text}")).ok()).find(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_is_stood_for_by_what_it_matches() {
        for pattern in ["/a", "/a*", "*.json", "*", "/v1/{*}/x", "/v1/{**}", "/v1/{**}.txt", "/a/{*}.txt"] {
            let found = paths(pattern);
            assert!(!found.is_empty(), "{pattern}");
            let matcher = PathMatch::widest(pattern).unwrap();
            assert!(found.iter().all(|path| matcher.matches(path)), "{pattern}: {found:?}");
        }
        let rows = [
            "corp.example/ns/bank/sa/payments",
            "corp.example/ns/bank/*",
            "corp.example/ns/bank/sa/*",
            "corp.example/ns/b*",
            "corp.example/*",
            "corp.*",
            "*/sa/payments",
            "*/ns/bank/sa/payments",
            "*payments",
            "*",
        ];
        for pattern in rows {
            let id = identity(pattern, "corp.example").unwrap_or_else(|| panic!("{pattern}"));
            assert!(
                TextMatch::new(pattern).matches(id.principal().as_bytes(), Case::Exact),
                "{pattern}: {id}"
            );
        }
        let local = identity("cluster.local/ns/bank/sa/a", "corp.example").unwrap();
        assert_eq!(local.principal(), "corp.example/ns/bank/sa/a");
        assert_eq!(identity("no id", "corp.example"), None);
        for pattern in ["GET", "P*", "*T", "*"] {
            assert!(TextMatch::new(pattern).matches(text(pattern).as_bytes(), Case::Exact), "{pattern}");
        }
    }
}
