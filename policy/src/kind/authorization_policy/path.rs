//! How a value of `paths` matches: as any text, or as a template with `{*}` and `{**}`.

use std::fmt;

use super::clause::Reading;
use super::text::{Case, TextMatch};
use super::texts::Form;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PathMatch {
    Text(TextMatch),
    Template(Template),
}

/// `/a/{*}/b/{**}/c`: segments up to `{**}`, then a fixed end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template {
    head: Box<[Segment]>,
    /// What follows `{**}`; `None` where the template has no `{**}`.
    tail: Option<Box<str>>,
    reading: Reading,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(Box<str>),
    /// `{*}.txt`: one segment that has something before this end, which may be empty.
    One(Box<str>),
}

/// Why a value is no template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TemplateError {
    #[error("a path template starts with a slash")]
    NotAbsolute,
    #[error("braces stand only in {{*}} and {{**}}, at the start of a segment")]
    Brace,
    #[error("\"*\" and path templates cannot be mixed")]
    Mixed,
    #[error("nothing but plain text may follow {{**}}")]
    AfterDouble,
    #[error("a text right behind {{*}} or {{**}} ends the template")]
    AfterEnd,
}

impl PathMatch {
    /// `reading`: what a match leads to. Where it permits, `{*}` and `{**}` take what they take in Istio, which is not
    /// every character; where it refuses, they take all.
    pub(in crate::kind) fn new(pattern: &str, reading: Reading) -> Result<Self, TemplateError> {
        if pattern.contains(['{', '}']) {
            Template::new(pattern, reading).map(Self::Template)
        } else {
            Ok(Self::Text(TextMatch::new(pattern)))
        }
    }

    /// As wide as it can be read: for those who ask whether a path may be meant.
    pub(crate) fn widest(pattern: &str) -> Result<Self, TemplateError> {
        Self::new(pattern, Reading::Refusing)
    }

    /// What the index can look for.
    pub(super) fn form(&self) -> Option<Form> {
        match self {
            Self::Text(text) => text.form(),
            Self::Template(template) => Some(Form::Start(template.start().into_bytes().into())),
        }
    }

    pub(crate) fn matches(&self, path: &str) -> bool {
        match self {
            Self::Text(text) => text.matches(path.as_bytes(), Case::Exact),
            Self::Template(template) => template.matches(path),
        }
    }
}

impl fmt::Display for PathMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(&text.written()),
            Self::Template(template) => template.fmt(f),
        }
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for segment in &self.head {
            match segment {
                Segment::Literal(literal) => write!(f, "/{literal}")?,
                Segment::One(end) => write!(f, "/{{*}}{end}")?,
            }
        }
        match &self.tail {
            Some(tail) => write!(f, "/{{**}}{tail}"),
            None => Ok(()),
        }
    }
}

impl Template {
    /// How every path begins that it matches.
    fn start(&self) -> String {
        let literals = self.head.iter().map_while(|segment| match segment {
            Segment::Literal(literal) => Some(&**literal),
            Segment::One(_) => None,
        });
        literals.fold(String::from("/"), |start, literal| start + literal + "/")
    }

    fn new(pattern: &str, reading: Reading) -> Result<Self, TemplateError> {
        let rest = pattern.strip_prefix('/').ok_or(TemplateError::NotAbsolute)?;
        let mut head = Vec::new();
        let mut tail: Option<String> = None;
        let mut segments = rest.split('/').peekable();
        while let Some(segment) = segments.next() {
            let is_last = segments.peek().is_none();
            let double = segment.strip_prefix("{**}");
            match (double, segment.strip_prefix("{*}"), &mut tail) {
                (Some(_), _, Some(_)) | (_, Some(_), Some(_)) => return Err(TemplateError::AfterDouble),
                (Some(end), _, None) => tail = Some(plain_end(end, is_last)?.to_owned()),
                (None, Some(end), None) => head.push(Segment::One(plain_end(end, is_last)?.into())),
                (None, None, Some(tail)) => {
                    tail.push('/');
                    tail.push_str(plain(segment)?);
                }
                (None, None, None) => head.push(Segment::Literal(plain(segment)?.into())),
            }
        }
        Ok(Self { head: head.into(), tail: tail.map(Into::into), reading })
    }

    fn matches(&self, path: &str) -> bool {
        let Some(mut rest) = path.strip_prefix('/') else { return false };
        let mut segments = self.head.iter().peekable();
        while let Some(segment) = segments.next() {
            let last = segments.peek().is_none() && self.tail.is_none();
            let (found, after) = match rest.split_once('/') {
                Some(_) if last => return false,
                Some((found, after)) => (found, after),
                // The slash before `{**}` or before the next segment is part of the template.
                None if !last => return false,
                None => (rest, ""),
            };
            let fits = match segment {
                Segment::Literal(literal) => found == &**literal,
                Segment::One(end) => {
                    found.strip_suffix(&**end).is_some_and(|found| !found.is_empty() && self.takes(found))
                }
            };
            if !fits {
                return false;
            }
            rest = after;
        }
        self.tail.as_ref().is_none_or(|tail| rest.strip_suffix(&**tail).is_some_and(|rest| self.takes(rest)))
    }

    /// Whether an operator takes this text. Envoy's take the characters of a path segment but `=` and `*`.
    fn takes(&self, text: &str) -> bool {
        let is_taken = |b: u8| b.is_ascii_alphanumeric() || b"-._~%!$&'()+,;:@/".contains(&b);
        self.reading == Reading::Refusing || text.bytes().all(is_taken)
    }
}

fn plain(segment: &str) -> Result<&str, TemplateError> {
    match segment {
        braces if braces.contains(['{', '}']) => Err(TemplateError::Brace),
        star if star.contains('*') => Err(TemplateError::Mixed),
        plain => Ok(plain),
    }
}

/// A text right behind an operator, which only the last segment may have.
fn plain_end(text: &str, is_last: bool) -> Result<&str, TemplateError> {
    if !text.is_empty() && !is_last {
        return Err(TemplateError::AfterEnd);
    }
    plain(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, yes: &[&str], no: &[&str]) {
        for reading in [Reading::Permitting, Reading::Refusing] {
            let matcher = PathMatch::new(pattern, reading).unwrap();
            for path in yes {
                assert!(matcher.matches(path), "{pattern} should match {path}");
            }
            for path in no {
                assert!(!matcher.matches(path), "{pattern} should not match {path}");
            }
        }
    }

    #[test]
    fn a_single_star_is_one_segment_that_is_not_empty() {
        check("/foo/{*}/x", &["/foo/bar/x"], &["/foo//x", "/foo/x", "/foo/a/b/x", "/foo/bar/x/", "/foo/bar"]);
        check("/foo/{*}", &["/foo/a"], &["/foo/", "/foo", "/foo/a/", "/foo/a/b"]);
        check("/{*}", &["/a"], &["/", "/a/b"]);
    }

    #[test]
    fn a_double_star_is_any_number_of_segments_after_a_slash() {
        check(
            "/allow/admin/{**}",
            &["/allow/admin/", "/allow/admin/a", "/allow/admin/a/b"],
            &["/allow/admin", "/allow/administrator"],
        );
        check(
            "/store/{**}/cart",
            &["/store//cart", "/store/a/cart", "/store/a/b/cart"],
            &["/store/cart", "/store/a/cart/", "/store/acart"],
        );
        check("/{**}/x", &["//x", "/a/x", "/a/b/x"], &["/x", "/ax"]);
        check("/{**}", &["/", "/a", "/a/b"], &[""]);
        check("/{*}/a/{**}/b", &["/x/a/y/b", "/x/a//b"], &["//a/y/b", "/x/a/b", "/x/y/a/b/b"]);
    }

    #[test]
    fn a_text_behind_the_last_operator_is_the_end_of_the_path() {
        check(
            "/foo/{*}/bar/{**}.txt",
            &["/foo/buzz/bar/bat.txt", "/foo/buzz/bar/bat/fuzz.txt", "/foo/buzz/bar/.txt"],
            &["/foo/bar/bat.txt", "/foo//bar/bat.txt", "/foo/buzz/bar/bat", "/foo/buzz/bar/bat.txt/"],
        );
        check("/img/{*}.png", &["/img/a.png"], &["/img/.png", "/img/a/b.png", "/img/a.png.exe"]);
    }

    #[test]
    fn what_an_operator_does_not_take_in_istio_permits_nothing_and_escapes_no_refusal() {
        for (pattern, path) in
            [("/a/{*}", "/a/x=1"), ("/a/{**}", "/a/b/x=1"), ("/a/{**}", "/a/*"), ("/a/{*}", "/a/é")]
        {
            assert!(!PathMatch::new(pattern, Reading::Permitting).unwrap().matches(path), "{path}");
            assert!(PathMatch::new(pattern, Reading::Refusing).unwrap().matches(path), "{path}");
        }
    }

    #[test]
    fn refuses_templates_that_envoy_refuses() {
        let rows = [
            ("/a/{id}", TemplateError::Brace),
            ("/a{*}", TemplateError::Brace),
            ("/{*}b{*}", TemplateError::Brace),
            ("/{*}b/c", TemplateError::AfterEnd),
            ("/{**}b/c", TemplateError::AfterEnd),
            ("/{*}*", TemplateError::Mixed),
            ("/a/{", TemplateError::Brace),
            ("/a/{*}/b*", TemplateError::Mixed),
            ("/{**}/{*}", TemplateError::AfterDouble),
            ("/{**}/{**}", TemplateError::AfterDouble),
            ("a/{*}", TemplateError::NotAbsolute),
        ];
        for (pattern, error) in rows {
            assert_eq!(PathMatch::widest(pattern), Err(error), "{pattern}");
        }
    }
}
