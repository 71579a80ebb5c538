//! What the upstream sees instead of path and authority.

use std::borrow::Cow;

use http::uri::Authority;
use regex::bytes::Regex;

use super::matcher::Matcher;
use super::text::regex;
use crate::finding::code;
use crate::finding::problem::Problems;
use crate::kind::MeshConfigSpec;
use crate::kind::mesh_config::{AmbiguousPaths, PathNormalization};
use crate::request::path::{PathError, normalize};

/// The longest path that leaves a rewrite. 64 KiB: what a request's target may have. A replacement of a kilobyte for every
/// letter of a long path must not fill the memory before anybody finds it too long.
const PATH_BYTES_MAX: usize = 64 * 1024;
/// A replacement, and how many groups it may name: each can be as long as the path, so one match grows it by so much.
const REPLACEMENT_BYTES_MAX: usize = 1024;
const GROUPS_NAMED_MAX: usize = 16;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewrite {
    /// In place of the prefix that matched, or of the whole path.
    pub uri: Option<String>,
    pub authority: Option<String>,
    pub uri_regex: Option<RegexRewrite>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegexRewrite {
    pub pattern: String,
    /// `\1` to `\9` stand for the groups, `\0` for all that matched, `\\` for a backslash.
    pub replacement: String,
}

/// A compiled rewrite.
#[derive(Clone, Debug, Default)]
pub struct PathRewrite {
    pub authority: Option<Authority>,
    path: Option<NewPath>,
}

#[derive(Clone, Debug)]
enum NewPath {
    Prefix(Box<str>),
    Regex { pattern: Regex, replacement: Box<[u8]> },
}

/// Why a rewritten path goes nowhere (400): whoever asked chose what stands where the rewrite joins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the rewritten path is not in normal form")]
pub struct Unclean;

impl PathRewrite {
    pub(crate) fn new(rewrite: &Rewrite, path: &str, problems: &mut Problems) -> Self {
        if *rewrite == Rewrite::default() {
            problems.error(code::BAD_REWRITE, path, "this rewrite says nothing");
            problems.help("write uri, authority or uriRegexRewrite, or leave rewrite out");
        }
        let mut wrong = |field: &str, message: &str| {
            problems.error(code::BAD_REWRITE, format!("{path}.{field}"), message);
        };
        if rewrite.uri.is_some() && rewrite.uri_regex.is_some() {
            wrong("uri", "uri and uriRegexRewrite stand beside each other; keep one");
        }
        let authority = match &rewrite.authority {
            Some(text) => {
                let parsed = plain_authority(text);
                if parsed.is_none() {
                    wrong("authority", "this is no host, and no host:port");
                }
                parsed
            }
            None => None,
        };
        if let Some(uri) = &rewrite.uri
            && !is_clean(uri)
        {
            wrong(
                "uri",
                "this is no path in normal form: it starts with a slash and has no query, `..` or `//`",
            );
        }
        let new_path = match (&rewrite.uri, &rewrite.uri_regex) {
            (Some(uri), _) => Some(NewPath::Prefix(uri.as_str().into())),
            (None, Some(RegexRewrite { pattern, replacement })) => {
                let path = format!("{path}.uriRegexRewrite");
                let pattern = regex(pattern, &format!("{path}.match"), problems);
                let groups = pattern.as_ref().map_or(0, |p| p.captures_len());
                if replacement.len() > REPLACEMENT_BYTES_MAX
                    || replacement.matches('\\').count() > GROUPS_NAMED_MAX
                {
                    let message = format!(
                        "a replacement has {REPLACEMENT_BYTES_MAX} bytes and {GROUPS_NAMED_MAX} backslashes at most"
                    );
                    problems.error(code::BAD_REWRITE, format!("{path}.rewrite"), message);
                }
                let replacement = replacement_of(replacement, groups);
                if replacement.is_none() && pattern.is_some() {
                    let message =
                        "\\0 to \\9 stand for groups of the match, \\\\ for a backslash; here is another";
                    problems.error(code::BAD_REWRITE, format!("{path}.rewrite"), message);
                }
                pattern.zip(replacement).map(|(pattern, replacement)| NewPath::Regex {
                    pattern,
                    replacement: replacement.into_bytes().into(),
                })
            }
            (None, None) => None,
        };
        Self { authority, path: new_path }
    }

    /// The path (without query) that the upstream gets. What was judged is the path as it was asked for; a rewrite
    /// must not make of it what normalization would have changed or refused.
    pub fn apply<'p>(
        &self,
        path: &'p str,
        matched: Option<&Matcher>,
        mesh: &MeshConfigSpec,
    ) -> Result<Cow<'p, str>, Unclean> {
        let rewritten = match &self.path {
            None => return Ok(Cow::Borrowed(path)),
            Some(NewPath::Prefix(new)) => {
                let replaced = matched.map_or(1, |m| m.replaced(path));
                let rest = path.get(replaced..).unwrap_or_default();
                // Istio would write `//` where both have a slash.
                let rest = if new.ends_with('/') { rest.strip_prefix('/').unwrap_or(rest) } else { rest };
                format!("{new}{rest}")
            }
            Some(NewPath::Regex { pattern, replacement }) => {
                let new = replaced(pattern, replacement, path.as_bytes())?;
                String::from_utf8(new).map_err(|_invalid| Unclean)?
            }
        };
        // Where a mesh leaves paths alone, those that a rewrite makes are still held to the basic form.
        let normalization = match mesh.path_normalization {
            PathNormalization::None => PathNormalization::Base,
            other => other,
        };
        let normal: Result<_, PathError> = normalize(&rewritten, normalization, mesh.ambiguous_paths);
        match normal {
            Ok(normal) if normal == rewritten && !rewritten.starts_with("//") && !rewritten.contains('?') => {
                Ok(Cow::Owned(rewritten))
            }
            _ => Err(Unclean),
        }
    }
}

/// Every match replaced, as the regex crate does it, but no further than [`PATH_BYTES_MAX`].
fn replaced(pattern: &Regex, replacement: &[u8], path: &[u8]) -> Result<Vec<u8>, Unclean> {
    let (mut out, mut copied) = (Vec::with_capacity(path.len()), 0);
    for captures in pattern.captures_iter(path) {
        let Some(whole) = captures.get(0) else { continue };
        out.extend_from_slice(path.get(copied..whole.start()).unwrap_or_default());
        captures.expand(replacement, &mut out);
        copied = whole.end();
        if out.len() > PATH_BYTES_MAX {
            return Err(Unclean);
        }
    }
    out.extend_from_slice(path.get(copied..).unwrap_or_default());
    Ok(out)
}

/// A path that every mode of normalization leaves as it is.
pub(super) fn is_clean(path: &str) -> bool {
    let strictest = normalize(path, PathNormalization::DecodeAndMergeSlashes, AmbiguousPaths::Reject);
    strictest.is_ok_and(|normal| normal == path) && !path.contains('?')
}

/// `host` or `host:port`, without user information.
pub(super) fn plain_authority(text: &str) -> Option<Authority> {
    Authority::try_from(text).ok().filter(|a| !a.as_str().contains('@') && !a.host().is_empty())
}

/// RE2's replacement in the form of the regex crate. `None` where a group does not exist.
fn replacement_of(text: &str, groups: usize) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '\\' => match rest.next()? {
                '\\' => out.push('\\'),
                digit => {
                    let group = usize::try_from(digit.to_digit(10)?).ok().filter(|group| *group < groups)?;
                    out.push_str(&format!("${{{group}}}"));
                }
            },
            '$' => out.push_str("$$"),
            c => out.push(c),
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replacing_within_bounds_is_what_the_regex_crate_does() {
        let rows = [
            ("a", "b", "/aXa"),
            ("(a)(b)?", "${2}-${1}", "/abaab"),
            ("x*", "-", "/ab"),
            ("z", "q", "/ab"),
            ("b$", "", "/ab"),
        ];
        for (pattern, replacement, path) in rows {
            let pattern = Regex::new(pattern).unwrap();
            let expected = pattern.replace_all(path.as_bytes(), replacement.as_bytes()).into_owned();
            assert_eq!(
                replaced(&pattern, replacement.as_bytes(), path.as_bytes()),
                Ok(expected),
                "{pattern}"
            );
        }
    }

    #[test]
    fn a_rewrite_that_would_grow_without_bound_is_given_up() {
        let pattern = Regex::new("a").unwrap();
        let path = format!("/{}", "a".repeat(60_000));
        assert_eq!(replaced(&pattern, &[b'b'; 1024], path.as_bytes()), Err(Unclean));
        assert!(replaced(&pattern, b"b", path.as_bytes()).is_ok());
    }

    #[test]
    fn a_replacement_that_could_grow_a_path_many_times_over_is_refused() {
        let refused = |replacement: String| {
            let mut problems = Problems::default();
            let uri_regex = Some(RegexRewrite { pattern: "(.*)".into(), replacement });
            PathRewrite::new(&Rewrite { uri_regex, ..Rewrite::default() }, "p", &mut problems);
            problems.has_errors()
        };
        assert!(!refused(r"/\1".repeat(16)) && !refused("a".repeat(1024)));
        assert!(refused(r"/\1".repeat(17)) && refused("a".repeat(1025)));
    }
}
