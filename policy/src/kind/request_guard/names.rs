//! Sets of header names, without regard to case and with `_` read as `-`: so read servers that hand headers on as
//! CGI variables, and to them two spellings are one header.

use std::cmp::Ordering;

use http::{HeaderMap, HeaderName};

/// Names, and what names begin with. Sorted, so that a look costs a few comparisons however many there are.
#[derive(Clone, Debug, Default)]
pub struct HeaderNames {
    /// Folded.
    whole: Box<[Box<str>]>,
    /// Folded; none of them begins with another one.
    beginnings: Box<[Box<str>]>,
}

impl HeaderNames {
    /// Of names, or beginnings and a `*` as the last character.
    pub fn new<T: AsRef<str>>(patterns: impl IntoIterator<Item = T>) -> Self {
        let (mut whole, mut beginnings) = (Vec::new(), Vec::<Box<str>>::new());
        for pattern in patterns {
            let folded = folded(pattern.as_ref());
            match folded.strip_suffix('*') {
                Some(beginning) => beginnings.push(beginning.into()),
                None => whole.push(folded.into()),
            }
        }
        whole.sort_unstable();
        beginnings.sort_unstable();
        whole.dedup();
        beginnings.dedup_by(|longer, beginning| longer.starts_with(&**beginning));
        Self { whole: whole.into(), beginnings: beginnings.into() }
    }

    pub fn is_empty(&self) -> bool {
        self.whole.is_empty() && self.beginnings.is_empty()
    }

    pub fn has(&self, name: &str) -> bool {
        self.names(name) || self.begins(name)
    }

    /// Whether the name itself is among them, not a beginning of it.
    pub fn names(&self, name: &str) -> bool {
        self.whole.binary_search_by(|known| compare(known, name)).is_ok()
    }

    /// What begins a name stands right before it, since nothing in between could begin otherwise.
    fn begins(&self, name: &str) -> bool {
        let after = self.beginnings.partition_point(|known| compare(known, name).is_le());
        let before = after.checked_sub(1).and_then(|at| self.beginnings.get(at));
        before.is_some_and(|beginning| begins_folded(name, beginning))
    }
}

fn compare(folded: &str, name: &str) -> Ordering {
    folded.bytes().cmp(name.bytes().map(fold))
}

/// A name in the spelling that all of its spellings share.
pub(crate) fn folded(name: &str) -> String {
    name.to_ascii_lowercase().replace('_', "-")
}

/// Whether two names are one to a server that reads `_` as `-` and any case as one (CGI, and what copies it).
pub fn is_folded(name: &str, other: &str) -> bool {
    name.len() == other.len() && begins_folded(name, other)
}

/// Whether a name begins so to such a server.
pub fn begins_folded(name: &str, with: &str) -> bool {
    name.len() >= with.len() && name.bytes().zip(with.bytes()).all(|(a, b)| fold(a) == fold(b))
}

fn fold(byte: u8) -> u8 {
    if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() }
}

/// Removes the headers whose name `is` says.
pub fn remove_where(headers: &mut HeaderMap, is: impl Fn(&str) -> bool) {
    remove_names(headers, |name| is(name.as_str()));
}

/// The same of names as the http crate has them, which compares those that it knows by number.
pub fn remove_names(headers: &mut HeaderMap, is: impl Fn(&HeaderName) -> bool) {
    // `Vec::new` allocates nothing until there is something.
    let found: Vec<HeaderName> = headers.keys().filter(|name| is(name)).cloned().collect();
    for name in found {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_a_name_are_one_name() {
        let names = HeaderNames::new(["X-Debug", "x_internal_*", "x-internal-a*", "x-z", "X_Z"]);
        for name in
            ["x-debug", "X_DEBUG", "x-internal-", "x-internal-a", "X_Internal-b", "x-internal-abc", "x_z"]
        {
            assert!(names.has(name), "{name}");
        }
        for name in ["x-debug-", "x-debu", "xdebug", "x-internal", "ax-debug", ""] {
            assert!(!names.has(name), "{name}");
        }
        assert!(HeaderNames::new(["*"]).has("anything"));
        assert!(!HeaderNames::new(["*"]).names("anything"));
        let both = HeaderNames::new(["cookie", "*", "a*"]);
        assert!(both.names("Cookie") && both.has("") && both.has("b"));
        assert!(!HeaderNames::default().has("") && HeaderNames::default().is_empty());
    }
}
