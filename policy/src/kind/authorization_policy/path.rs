//! How a value of `paths` matches: as any text, or as a template with `{*}` and `{**}`.

use super::text::{Case, TextMatch};

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
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(Box<str>),
    /// `{*}`: one segment, not empty.
    One,
}

/// Why a value is no template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TemplateError {
    #[error("a path template starts with a slash")]
    NotAbsolute,
    #[error("braces stand only in {{*}} and {{**}}, and fill a whole segment")]
    Brace,
    #[error("\"*\" and path templates cannot be mixed")]
    Mixed,
    #[error("nothing but plain text may follow {{**}}")]
    AfterDouble,
}

impl PathMatch {
    pub(crate) fn new(pattern: &str) -> Result<Self, TemplateError> {
        if pattern.contains(['{', '}']) {
            Template::new(pattern).map(Self::Template)
        } else {
            Ok(Self::Text(TextMatch::new(pattern)))
        }
    }

    pub(crate) fn matches(&self, path: &str) -> bool {
        match self {
            Self::Text(text) => text.matches(path.as_bytes(), Case::Exact),
            Self::Template(template) => template.matches(path),
        }
    }
}

impl Template {
    fn new(pattern: &str) -> Result<Self, TemplateError> {
        let rest = pattern.strip_prefix('/').ok_or(TemplateError::NotAbsolute)?;
        let mut head = Vec::new();
        let mut tail: Option<String> = None;
        for segment in rest.split('/') {
            match (segment, &mut tail) {
                ("{*}" | "{**}", Some(_)) => return Err(TemplateError::AfterDouble),
                ("{**}", None) => tail = Some(String::new()),
                ("{*}", None) => head.push(Segment::One),
                (literal, _) if literal.contains(['{', '}']) => return Err(TemplateError::Brace),
                (literal, _) if literal.contains('*') => return Err(TemplateError::Mixed),
                (literal, Some(tail)) => {
                    tail.push('/');
                    tail.push_str(literal);
                }
                (literal, None) => head.push(Segment::Literal(literal.into())),
            }
        }
        Ok(Self { head: head.into(), tail: tail.map(Into::into) })
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
                Segment::One => !found.is_empty(),
            };
            if !fits {
                return false;
            }
            rest = after;
        }
        self.tail.as_ref().is_none_or(|tail| rest.ends_with(&**tail))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, yes: &[&str], no: &[&str]) {
        let matcher = PathMatch::new(pattern).unwrap();
        for path in yes {
            assert!(matcher.matches(path), "{pattern} should match {path}");
        }
        for path in no {
            assert!(!matcher.matches(path), "{pattern} should not match {path}");
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
    fn refuses_templates_that_envoy_refuses() {
        let rows = [
            ("/a/{id}", TemplateError::Brace),
            ("/a{*}", TemplateError::Brace),
            ("/{*}b", TemplateError::Brace),
            ("/a/{", TemplateError::Brace),
            ("/a/{*}/b*", TemplateError::Mixed),
            ("/{**}/{*}", TemplateError::AfterDouble),
            ("/{**}/{**}", TemplateError::AfterDouble),
            ("a/{*}", TemplateError::NotAbsolute),
        ];
        for (pattern, error) in rows {
            assert_eq!(PathMatch::new(pattern), Err(error), "{pattern}");
        }
    }
}
