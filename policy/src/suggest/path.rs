//! From a path to what a policy may say of it.

/// A path, with `{*}` for segments that are ids.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Template(String);

impl Template {
    /// `None`: the path has characters that policies give a meaning, or that a rule cannot take.
    pub(super) fn of(path: &str) -> Option<Self> {
        let rest = path.strip_prefix('/')?;
        if path.contains(['*', '{', '}']) || path.chars().any(|c| c.is_control() || !c.is_ascii()) {
            return None;
        }
        let segments: Vec<&str> = rest.split('/').map(|s| if is_id(s) { "{*}" } else { s }).collect();
        Some(Self(format!("/{}", segments.join("/"))))
    }

    pub(super) fn text(&self) -> &str {
        &self.0
    }

    pub(super) fn is_general(&self) -> bool {
        self.0.contains("{*}")
    }
}

/// Whether a segment is an id by its form: digits alone, a UUID, a ULID, or 16 and more hexadecimal digits. `v1`, `2fa` and
/// names of people are none.
fn is_id(segment: &str) -> bool {
    let bytes = segment.as_bytes();
    let digits = |b: &u8| b.is_ascii_digit();
    let hex = |b: &u8| b.is_ascii_hexdigit();
    let is_number = !bytes.is_empty() && bytes.iter().all(digits);
    let is_hash = bytes.len() >= 16 && bytes.iter().all(hex) && bytes.iter().any(digits);
    let is_ulid = bytes.len() == 26
        && bytes.iter().any(digits)
        && bytes.iter().all(|b| b.is_ascii_digit() || (b.is_ascii_uppercase() && !b"ILOU".contains(b)));
    is_number || is_hash || is_ulid || is_uuid(segment)
}

fn is_uuid(segment: &str) -> bool {
    let parts: Vec<&str> = segment.split('-').collect();
    let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
    lengths == [8, 4, 4, 4, 12] && parts.iter().all(|part| part.bytes().all(|b| b.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_an_id_by_its_form_becomes_any_segment() {
        let rows = [
            ("/", Some("/")),
            ("/entries", Some("/entries")),
            ("/entries/", Some("/entries/")),
            ("/accounts/1007/balance", Some("/accounts/{*}/balance")),
            ("/t/0192f1c8-7d0a-7c4e-8a53-1f2e3d4c5b6a", Some("/t/{*}")),
            ("/t/01ARZ3NDEKTSV4RRFFQ69G5FAV", Some("/t/{*}")),
            ("/t/9f86d081884c7d659a2feaa0c55ad015", Some("/t/{*}")),
            ("/v1/2fa/deadbeef/users/alice", Some("/v1/2fa/deadbeef/users/alice")),
            ("/abcdefabcdefabcdef", Some("/abcdefabcdefabcdef")),
            ("/a/*/b", None),
            ("/a*", None),
            ("/a/{*}", None),
            ("/a/{id}/7", None),
            ("a", None),
            ("", None),
            ("/caf\u{e9}", None),
        ];
        for (path, expected) in rows {
            assert_eq!(Template::of(path).as_ref().map(Template::text), expected, "{path}");
        }
    }
}
