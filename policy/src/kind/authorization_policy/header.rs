//! How a condition on a request header matches: value by value, never on values joined by commas.

use http::{HeaderMap, HeaderName};

use super::clause::Reading;
use super::text::{Case, TextMatch};

/// `when: request.headers[name]`.
#[derive(Clone, Debug)]
pub(super) struct HeaderClause {
    pub(super) name: HeaderName,
    pub(super) any: Box<[TextMatch]>,
    pub(super) none: Box<[TextMatch]>,
}

impl HeaderClause {
    /// A header may be sent several times. Where a match refuses, one fitting value is enough; where it permits,
    /// every value must fit: a second header neither hides the first nor lends it anything (CVE-2026-26308).
    pub(super) fn matches(&self, headers: &HeaderMap, reading: Reading) -> bool {
        let hits =
            |patterns: &[TextMatch], value: &[u8]| patterns.iter().any(|p| p.matches(value, Case::Exact));
        let mut values = headers.get_all(&self.name).iter().map(|v| trim(v.as_bytes())).peekable();
        if values.peek().is_none() {
            return self.any.is_empty();
        }
        let fits = |value: &[u8]| (self.any.is_empty() || hits(&self.any, value)) && !hits(&self.none, value);
        match reading {
            Reading::Permitting => values.all(fits),
            Reading::Refusing => values.any(fits),
        }
    }
}

/// Optional white space around a value is not part of it (RFC 9110 section 5.5; CVE-2019-18802).
pub(super) fn trim(value: &[u8]) -> &[u8] {
    value.trim_ascii()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[track_caller]
    fn check(any: &[&str], none: &[&str], sent: &[&str], permitting: bool, refusing: bool) {
        let patterns = |p: &[&str]| p.iter().map(|p| TextMatch::new(p)).collect();
        let name = HeaderName::from_static("x-role");
        let clause = HeaderClause { name: name.clone(), any: patterns(any), none: patterns(none) };
        let mut headers = HeaderMap::new();
        for value in sent {
            headers.append(&name, HeaderValue::from_str(value).unwrap());
        }
        let case = format!("{any:?} not {none:?} against {sent:?}");
        assert_eq!(clause.matches(&headers, Reading::Permitting), permitting, "permitting {case}");
        assert_eq!(clause.matches(&headers, Reading::Refusing), refusing, "refusing {case}");
    }

    #[test]
    fn a_repeated_header_neither_hides_nor_lends_a_value() {
        check(&["admin"], &[], &["admin"], true, true);
        check(&["admin"], &[], &["user"], false, false);
        check(&["admin"], &[], &["user", "admin"], false, true);
        check(&["admin"], &[], &["admin", "user"], false, true);
        check(&["admin"], &[], &["user,admin"], false, false);
        check(&[], &["admin"], &["user", "admin"], false, true);
        check(&[], &["admin"], &["admin"], false, false);
    }

    #[test]
    fn white_space_around_a_value_is_not_part_of_it() {
        check(&["admin"], &[], &["admin "], true, true);
        check(&["admin"], &[], &["\tadmin"], true, true);
    }

    #[test]
    fn an_empty_header_is_not_present_and_an_absent_one_fits_every_negation() {
        check(&["*"], &[], &[""], false, false);
        check(&["*"], &[], &["x"], true, true);
        check(&["*"], &[], &[], false, false);
        check(&[], &["*"], &[], true, true);
        check(&[], &["admin"], &[], true, true);
        check(&[], &["*"], &[""], true, true);
    }
}
