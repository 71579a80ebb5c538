//! How a value of `hosts` matches the authority of a request.

use std::borrow::Cow;
use std::fmt;

use super::clause::Reading;
use super::text::{Case, TextMatch};
use super::texts::Form;

/// Compares whole authorities without regard to case (RFC 9110 section 4.2.3), as Istio does.
///
/// One server answers to `h`, `h:80` and `h.`. Where a match refuses, all spellings of a host match; where a match
/// permits, only the one that is written does. Either way a spelling opens nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::kind) struct HostMatch {
    text: TextMatch,
    reading: Reading,
}

impl HostMatch {
    pub(in crate::kind) fn new(pattern: &str, reading: Reading) -> Self {
        let pattern = match reading {
            Reading::Refusing if pattern != "*" => without_dot(pattern),
            _ => Cow::Borrowed(pattern),
        };
        Self { text: TextMatch::new(&pattern), reading }
    }

    /// What the index can look for among [`spellings`].
    pub(super) fn form(&self) -> Option<Form> {
        self.text.form().map(Form::into_lowercase)
    }

    pub(in crate::kind) fn matches(&self, host: &str) -> bool {
        let matches = |host: &str| self.text.matches(host.as_bytes(), Case::Ignore);
        if matches(host) {
            return true;
        }
        if self.reading == Reading::Permitting {
            return false;
        }
        let plain = without_dot(host);
        matches(&plain) || split_port(&plain).is_some_and(|(name, _)| matches(name))
    }
}

impl fmt::Display for HostMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text.written())
    }
}

/// Every text that some reading compares with a pattern, in whatever case. Some may come twice.
pub(super) fn spellings(host: &str, mut each: impl FnMut(&str)) {
    each(host);
    let plain = without_dot(host);
    if *plain != *host {
        each(&plain);
    }
    if let Some((name, _)) = split_port(&plain) {
        each(name);
    }
}

/// `h.` and `h.:80` as `h` and `h:80`. Allocates only for the latter, which no ordinary client writes.
fn without_dot(host: &str) -> Cow<'_, str> {
    match split_port(host) {
        Some((name, port)) if name.ends_with('.') => {
            Cow::Owned(format!("{}:{port}", name.trim_end_matches('.')))
        }
        Some(_) => Cow::Borrowed(host),
        None => Cow::Borrowed(host.trim_end_matches('.')),
    }
}

/// Name and port of an authority. The colons of a bare IPv6 address are no port.
fn split_port(host: &str) -> Option<(&str, &str)> {
    let (name, port) = host.rsplit_once(':')?;
    let bracketed = name.starts_with('[') && name.ends_with(']');
    (bracketed || !name.contains(':')).then_some((name, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(reading: Reading, pattern: &str, yes: &[&str], no: &[&str]) {
        let matcher = HostMatch::new(pattern, reading);
        for host in yes {
            assert!(matcher.matches(host), "{pattern} should match {host}");
        }
        for host in no {
            assert!(!matcher.matches(host), "{pattern} should not match {host}");
        }
    }

    #[test]
    fn a_refusing_match_catches_every_spelling_of_the_host() {
        let spellings =
            ["h.example", "H.Example", "h.example:80", "h.example:443", "h.example.", "h.example.:80"];
        check(Reading::Refusing, "h.example", &spellings, &["xh.example", "h.example.evil", "", "h"]);
        check(Reading::Refusing, "h.example.", &spellings, &["h"]);
        check(Reading::Refusing, "h.example:80", &["h.example:80", "h.example.:80"], &["h.example:81"]);
        check(Reading::Refusing, "*.example", &["a.example", "a.example:80", "a.example."], &["example"]);
        check(Reading::Refusing, "*", &["a", "a:80"], &[""]);
        check(Reading::Refusing, "[::1]", &["[::1]", "[::1]:80"], &["[::2]"]);
    }

    #[test]
    fn a_permitting_match_is_literal_but_for_case() {
        check(Reading::Permitting, "h.example", &["h.example", "H.EXAMPLE"], &["h.example:80", "h.example."]);
        check(Reading::Permitting, "h.example:*", &["h.example:80"], &["h.example"]);
    }
}
