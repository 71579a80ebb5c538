//! Sets of header names, without regard to case and with `_` read as `-`: so read servers that hand headers on as
//! CGI variables, and to them two spellings are one header.

/// Names, and what names begin with.
#[derive(Clone, Debug, Default)]
pub struct HeaderNames(Box<[Name]>);

#[derive(Clone, Debug)]
struct Name {
    /// In lower case, with `-`.
    text: Box<str>,
    prefix: bool,
}

impl HeaderNames {
    /// Of names, or beginnings and a `*` as the last character.
    pub(crate) fn new(patterns: &[String]) -> Self {
        let name = |pattern: &String| {
            let folded = folded(pattern);
            let text = folded.strip_suffix('*');
            Name { prefix: text.is_some(), text: text.unwrap_or(&folded).into() }
        };
        Self(patterns.iter().map(name).collect())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|known| match known.prefix {
            true => begins_folded(name, &known.text),
            false => is_folded(name, &known.text),
        })
    }

    /// Whether the name itself is among them, not a beginning of it.
    pub fn names(&self, name: &str) -> bool {
        self.0.iter().any(|known| !known.prefix && is_folded(name, &known.text))
    }
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
    let fold = |byte: u8| if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    name.len() >= with.len() && name.bytes().zip(with.bytes()).all(|(a, b)| fold(a) == fold(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_a_name_are_one_name() {
        let names = HeaderNames::new(&["X-Debug".into(), "x_internal_*".into()]);
        for name in ["x-debug", "X_DEBUG", "x-internal-", "x-internal-a", "X_Internal-b"] {
            assert!(names.has(name), "{name}");
        }
        for name in ["x-debug-", "x-debu", "xdebug", "x-internal", "ax-debug", ""] {
            assert!(!names.has(name), "{name}");
        }
        assert!(HeaderNames::new(&["*".into()]).has("anything"));
        assert!(!HeaderNames::new(&["*".into()]).names("anything"));
    }
}
