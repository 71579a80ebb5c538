//! StringMatch: exact, prefix or regex.

use regex::bytes::{Regex, RegexBuilder};

use crate::finding::code;
use crate::finding::problem::Problems;

/// Longer patterns are programs; Istio's own are below 1 KiB.
const PATTERN_BYTES_MAX: usize = 1024;
/// Memory of one compiled pattern: a bound on what counted repetitions such as `.{1000}{1000}` may cost. 32 KiB: a UUID
/// takes 5.
const PROGRAM_BYTES_MAX: usize = 32 * 1024;
/// What matching may keep of a pattern's states; beyond it matching is slower, not wrong.
const STATES_BYTES_MAX: usize = 128 * 1024;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StringMatch {
    Exact(String),
    Prefix(String),
    /// Fits when it matches the whole text, as in Istio. Time is linear in the text.
    Regex(String),
}

/// A compiled StringMatch. Works on bytes: header values need not be UTF-8.
#[derive(Clone, Debug)]
pub struct TextMatcher {
    form: Form,
    ignore_case: bool,
}

#[derive(Clone, Debug)]
enum Form {
    Exact(Box<[u8]>),
    Prefix(Box<[u8]>),
    Regex(Box<Regex>),
}

impl TextMatcher {
    /// `None` where the pattern does not compile; why is among the problems.
    pub(crate) fn new(
        pattern: &StringMatch,
        ignore_case: bool,
        path: &str,
        problems: &mut Problems,
    ) -> Option<Self> {
        let form = match pattern {
            StringMatch::Exact(text) => Form::Exact(text.as_bytes().into()),
            StringMatch::Prefix(text) if text.is_empty() => {
                problems.error(code::BAD_PATTERN, path, "an empty prefix matches everything");
                problems.help("leave the field out, or write {} where presence is meant");
                return None;
            }
            StringMatch::Prefix(text) => Form::Prefix(text.as_bytes().into()),
            StringMatch::Regex(_) if ignore_case => {
                let message = "ignoreUriCase is for exact and prefix; a regex keeps its case";
                problems.error(code::BAD_PATTERN, path, message);
                problems.help("write (?i) at the start of the regex");
                return None;
            }
            StringMatch::Regex(text) => Form::Regex(Box::new(whole(text, path, problems)?)),
        };
        Some(Self { form, ignore_case })
    }

    pub fn matches(&self, text: &[u8]) -> bool {
        let equal = |a: &[u8], b: &[u8]| if self.ignore_case { a.eq_ignore_ascii_case(b) } else { a == b };
        match &self.form {
            Form::Exact(exact) => equal(text, exact),
            Form::Prefix(prefix) => text.get(..prefix.len()).is_some_and(|head| equal(head, prefix)),
            Form::Regex(regex) => regex.is_match(text),
        }
    }
}

/// A regex that matches from the first byte to the last.
fn whole(pattern: &str, path: &str, problems: &mut Problems) -> Option<Regex> {
    // On its own first: `a)(b` would compile between our parentheses.
    regex(pattern, path, problems)?;
    regex(&format!(r"\A(?:{pattern})\z"), path, problems)
}

/// Compiles within the limits.
pub(super) fn regex(pattern: &str, path: &str, problems: &mut Problems) -> Option<Regex> {
    if pattern.is_empty() || pattern.len() > PATTERN_BYTES_MAX {
        let message = format!("a regex has 1 to {PATTERN_BYTES_MAX} bytes, this one has {}", pattern.len());
        problems.error(code::BAD_PATTERN, path, message);
        return None;
    }
    // As in RE2, `\d`, `\w`, `\s` and `(?i)` are about ASCII: a digit of another script is no digit of an account number.
    let mut builder = RegexBuilder::new(pattern);
    let built = builder.unicode(false).size_limit(PROGRAM_BYTES_MAX).dfa_size_limit(STATES_BYTES_MAX).build();
    match built {
        Ok(regex) => Some(regex),
        Err(error) => {
            let reason = error.to_string();
            let reason = reason.lines().last().unwrap_or_default().trim().trim_start_matches("error: ");
            problems.error(code::BAD_PATTERN, path, format!("{pattern:?} does not compile: {reason}"));
            problems.help("RE2's syntax, without look-around and back-references");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn fits(pattern: StringMatch, ignore_case: bool, text: &str) -> bool {
        let mut problems = Problems::default();
        TextMatcher::new(&pattern, ignore_case, "p", &mut problems).unwrap().matches(text.as_bytes())
    }

    #[test]
    fn a_regex_matches_the_whole_text_or_not_at_all() {
        let rows = [
            ("/a", "/a", true),
            ("/a", "/ab", false),
            ("/a", "x/a", false),
            ("/a|/b", "/b", true),
            ("/a|/b", "/ax", false),
            ("^/a$", "/a", true),
            ("(?i)/a", "/A", true),
            ("/a", "/a\n", false),
            ("/.*", "/x/y", true),
            (r"/\d+", "/12", true),
            (r"/\d", "/٣", false),
            ("(?i)k", "\u{212a}", false),
            ("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "0189d8a0-7b1c-7def-8a3b-0123456789ab", true),
        ];
        for (pattern, text, expected) in rows {
            assert_eq!(fits(StringMatch::Regex(pattern.into()), false, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn case_counts_unless_asked_otherwise() {
        assert!(!fits(StringMatch::Exact("/a".into()), false, "/A"));
        assert!(fits(StringMatch::Exact("/a".into()), true, "/A"));
        assert!(fits(StringMatch::Prefix("/a".into()), true, "/AB"));
        assert!(!fits(StringMatch::Prefix("/abc".into()), true, "/A"));
    }

    #[test]
    fn what_is_no_pattern_or_costs_too_much_is_refused() {
        let long = "a".repeat(PATTERN_BYTES_MAX + 1);
        let rows = ["", "(", "a)(b", r"(a)\1", "(?=a)", "(?:.{1000}){1000}", &long];
        for text in rows {
            let mut problems = Problems::default();
            let compiled = TextMatcher::new(&StringMatch::Regex(text.into()), false, "p", &mut problems);
            assert!(compiled.is_none() && problems.has_errors(), "{text}");
        }
    }
}
