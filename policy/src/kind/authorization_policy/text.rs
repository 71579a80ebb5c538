//! How a value of a policy matches a text: exact `abc`, prefix `abc*`, suffix `*abc`, presence `*`.

/// A pattern, ready to compare. Works on bytes: header values need not be UTF-8.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TextMatch {
    /// Anything but the empty text.
    Present,
    Exact(Box<[u8]>),
    Prefix(Box<[u8]>),
    Suffix(Box<[u8]>),
}

/// Whether letters must agree in case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Case {
    Exact,
    Ignore,
}

impl TextMatch {
    pub(crate) fn new(pattern: &str) -> Self {
        let bytes = |text: &str| text.as_bytes().into();
        match (pattern, pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
            ("*", _, _) => Self::Present,
            // `*abc*` is a suffix in Istio, whose text ends with an ordinary `*`.
            (_, Some(suffix), _) => Self::Suffix(bytes(suffix)),
            (_, None, Some(prefix)) => Self::Prefix(bytes(prefix)),
            (_, None, None) => Self::Exact(bytes(pattern)),
        }
    }

    /// As policies write it.
    pub(crate) fn written(&self) -> String {
        let text = String::from_utf8_lossy;
        match self {
            Self::Present => "*".into(),
            Self::Exact(exact) => text(exact).into_owned(),
            Self::Prefix(prefix) => format!("{}*", text(prefix)),
            Self::Suffix(suffix) => format!("*{}", text(suffix)),
        }
    }

    pub(crate) fn matches(&self, text: &[u8], case: Case) -> bool {
        let equal = |a: &[u8], b: &[u8]| match case {
            Case::Exact => a == b,
            Case::Ignore => a.eq_ignore_ascii_case(b),
        };
        match self {
            Self::Present => !text.is_empty(),
            Self::Exact(exact) => equal(text, exact),
            Self::Prefix(prefix) => text.get(..prefix.len()).is_some_and(|head| equal(head, prefix)),
            Self::Suffix(suffix) => {
                let tail = text.len().checked_sub(suffix.len()).and_then(|at| text.get(at..));
                tail.is_some_and(|tail| equal(tail, suffix))
            }
        }
    }
}

/// A `*` that is neither first nor last has no meaning in Istio; it only matches itself.
pub(crate) fn has_inner_wildcard(pattern: &str) -> bool {
    let inner = match pattern.strip_prefix('*') {
        Some(rest) => rest,
        None => pattern.strip_suffix('*').unwrap_or(pattern),
    };
    inner.contains('*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, yes: &[&str], no: &[&str]) {
        let matcher = TextMatch::new(pattern);
        for text in yes {
            assert!(matcher.matches(text.as_bytes(), Case::Exact), "{pattern} should match {text}");
        }
        for text in no {
            assert!(!matcher.matches(text.as_bytes(), Case::Exact), "{pattern} should not match {text}");
        }
    }

    #[test]
    fn matches_exact_prefix_suffix_and_presence() {
        check("abc", &["abc"], &["", "ABC", "abcd", "xabc", "ab"]);
        check("abc*", &["abc", "abcd"], &["ab", "xabc", "ABCd", ""]);
        check("*abc", &["abc", "xabc"], &["bc", "abcx", ""]);
        check("*", &["a", "*"], &[""]);
        check("a*c", &["a*c"], &["abc", "ac"]);
        check("*a*", &["a*", "xa*"], &["a", "xax"]);
    }

    #[test]
    fn ignores_case_only_when_asked() {
        assert!(TextMatch::new("*.Example").matches(b"a.eXAMPLE", Case::Ignore));
        assert!(!TextMatch::new("*.Example").matches(b"a.eXAMPLE", Case::Exact));
    }
}
