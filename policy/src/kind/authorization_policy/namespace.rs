//! How a value of `namespaces` matches: unlike in any other field, every `*` in it stands for any text.

use std::fmt;

use super::texts::Form;

/// The texts between the stars of a pattern. Without a star: one text, which is the namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NamespaceMatch(Box<[Box<str>]>);

impl NamespaceMatch {
    pub(super) fn new(pattern: &str) -> Self {
        Self(pattern.split('*').map(Box::from).collect())
    }

    /// What the index can look for: all of it, or how it begins.
    pub(super) fn form(&self) -> Option<Form> {
        let (first, others) = self.0.split_first()?;
        let text = first.as_bytes().into();
        if others.is_empty() { Some(Form::Exact(text)) } else { Some(Form::Start(text)) }
    }

    /// Compared with the namespace alone: Istio's regular expression over the whole id could be led astray by an id
    /// with `/ns/` in it twice.
    pub(super) fn matches(&self, namespace: &str) -> bool {
        let [first, between @ .., last] = &*self.0 else {
            return self.0.first().is_some_and(|only| **only == *namespace);
        };
        let Some(mut rest) = namespace.strip_prefix(&**first) else { return false };
        for text in between {
            let Some((_, after)) = rest.split_once(&**text) else { return false };
            rest = after;
        }
        rest.ends_with(&**last)
    }
}

impl fmt::Display for NamespaceMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("*"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_star_of_a_namespace_stands_for_any_text() {
        for (pattern, yes, no) in [
            ("bank", &["bank"][..], &["banks", "abank", "Bank", ""][..]),
            ("*", &["bank"], &[]),
            ("bank-*", &["bank-", "bank-a"], &["bank"]),
            ("*-prod", &["bank-prod", "-prod"], &["prod", "bank-prod-2"]),
            (
                "bank-*-prod",
                &["bank-eu-prod", "bank--prod"],
                &["bank-prod", "bank-eu-prod2", "xbank-eu-prod"],
            ),
            ("*eu*", &["eu", "bank-eu-prod"], &["bank-e-u"]),
            ("a*b*c", &["abc", "axbxc", "abbc"], &["acb", "ab", "axc"]),
            ("a*a", &["aa", "aba"], &["a"]),
            ("a.b", &["a.b"], &["axb"]),
        ] {
            let matcher = NamespaceMatch::new(pattern);
            for namespace in yes {
                assert!(matcher.matches(namespace), "{pattern} should match {namespace}");
            }
            for namespace in no {
                assert!(!matcher.matches(namespace), "{pattern} should not match {namespace}");
            }
        }
    }
}
