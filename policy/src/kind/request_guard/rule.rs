//! One rule of a guard, made ready, and what it says of a request.

use std::sync::Arc;

use http::HeaderMap;
use http::header::{CONTENT_TYPE, COOKIE, HeaderName};

use super::media::{MediaRange, MediaType};
use super::names::{HeaderNames, is_folded, remove_where};
use crate::decision::RuleRef;
use crate::kind::mesh_config::AmbiguousPaths;
use crate::kind::request_match::{MatchView, RequestMatch};

/// A compiled rule.
#[derive(Clone, Debug)]
pub struct GuardRule {
    pub name: RuleRef,
    /// `namespace/guard`, for metrics.
    pub title: Arc<str>,
    pub(super) matches: RequestMatch,
    /// The same, read so that it opens less: what ambiguous paths are let off by.
    pub(super) opens: RequestMatch,
    pub(super) methods: Box<[Box<str>]>,
    pub(super) types: Box<[MediaRange]>,
    pub body_bytes_max: Option<u64>,
    pub(super) headers_max: Option<u64>,
    pub(super) header_bytes_max: Option<u64>,
    pub(super) uri_bytes_max: Option<u64>,
    pub(super) forbidden: HeaderNames,
    pub(super) stripped: HeaderNames,
    pub(super) once: HeaderNames,
    pub(super) no_underscores: bool,
    pub(super) ambiguous_paths: Option<AmbiguousPaths>,
}

/// A request head as it came, before anything was removed from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Measure {
    pub lines: u64,
    /// Of names and values.
    pub bytes: u64,
    /// A name has `_`.
    pub underscore: bool,
    /// Of path and query.
    pub uri_bytes: u64,
}

/// What a guard looks at, beside what its match does.
#[derive(Clone, Copy, Debug)]
pub struct GuardView<'a> {
    pub method: &'a str,
    pub measure: Measure,
    /// What is left of them after hop-by-hop headers were removed, and what only proxies may write.
    pub headers: &'a HeaderMap,
    /// Whether there is a body, or may be one.
    pub has_body: bool,
    /// Of the body, where the head tells; what is surely there otherwise.
    pub body_bytes: u64,
    /// A preflight that is answered without asking anybody: method and type are the answer's matter.
    pub preflight: bool,
}

/// Why a guard refuses a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Violation {
    UriBytes,
    Headers,
    HeaderBytes,
    Underscore,
    Forbidden,
    Duplicate,
    Method,
    ContentType,
    BodyBytes,
}

impl Violation {
    /// Machine-readable reason, stable.
    pub fn code(self) -> &'static str {
        match self {
            Self::UriBytes => "guard_uri_bytes",
            Self::Headers => "guard_headers",
            Self::HeaderBytes => "guard_header_bytes",
            Self::Underscore => "guard_header_underscore",
            Self::Forbidden => "guard_header_forbidden",
            Self::Duplicate => "guard_header_duplicate",
            Self::Method => "guard_method",
            Self::ContentType => "guard_content_type",
            Self::BodyBytes => "guard_body_bytes",
        }
    }
}

impl Measure {
    pub fn of(headers: &HeaderMap, uri_bytes: usize) -> Self {
        let number = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        let size = |(name, value): (&HeaderName, &http::HeaderValue)| {
            name.as_str().len().saturating_add(value.as_bytes().len())
        };
        Self {
            lines: number(headers.len()),
            bytes: number(headers.iter().map(size).fold(0, usize::saturating_add)),
            underscore: headers.keys().any(has_underscore),
            uri_bytes: number(uri_bytes),
        }
    }
}

impl GuardRule {
    pub fn matches(&self, view: &MatchView<'_>) -> bool {
        self.matches.matches(view)
    }

    /// What the request breaks first, if anything.
    pub fn check(&self, request: &GuardView<'_>) -> Result<(), Violation> {
        let GuardView { measure, headers, .. } = *request;
        let above = |most: Option<u64>, number: u64| most.is_some_and(|most| number > most);
        let mut forms = [
            (Violation::UriBytes, above(self.uri_bytes_max, measure.uri_bytes)),
            (Violation::Headers, above(self.headers_max, measure.lines)),
            (Violation::HeaderBytes, above(self.header_bytes_max, measure.bytes)),
            (Violation::Underscore, self.no_underscores && measure.underscore),
            (Violation::Forbidden, self.has_forbidden(headers)),
            (Violation::Duplicate, self.has_duplicate(headers)),
            (Violation::Method, !request.preflight && !self.allows_method(request.method)),
            (Violation::ContentType, !request.preflight && !self.allows_type(request)),
            (Violation::BodyBytes, above(self.body_bytes_max, request.body_bytes)),
        ]
        .into_iter();
        forms.find(|(_, broken)| *broken).map_or(Ok(()), |(violation, _)| Err(violation))
    }

    /// Whether a request of this method may pass this rule.
    pub fn allows_method(&self, method: &str) -> bool {
        self.methods.is_empty() || self.methods.iter().any(|allowed| &**allowed == method)
    }

    /// The methods that it names; empty: all.
    pub fn methods(&self) -> &[Box<str>] {
        &self.methods
    }

    /// Removes what the rule says. The request was checked before.
    pub fn strip(&self, headers: &mut HeaderMap) {
        if !self.stripped.is_empty() {
            remove_where(headers, |name| self.stripped.has(name));
        }
    }

    /// Whether trailers must be looked at: a server may read them as if they were headers.
    pub fn minds_trailers(&self) -> bool {
        let names = [&self.forbidden, &self.stripped, &self.once];
        self.no_underscores || names.iter().any(|names| !names.is_empty())
    }

    /// Removes from trailers whatever the rule has an opinion on as a header.
    pub fn strip_trailers(&self, trailers: &mut HeaderMap) {
        let names = [&self.forbidden, &self.stripped, &self.once];
        remove_where(trailers, |name| {
            (self.no_underscores && name.contains('_')) || names.iter().any(|names| names.has(name))
        });
    }

    /// Whether it lets off an ambiguous path, if this is what it is read as. The rule has to be about every
    /// [reading](crate::request::readings), whichever server is right.
    pub fn keeps(&self, view: &MatchView<'_>) -> bool {
        self.ambiguous_paths == Some(AmbiguousPaths::Keep) && self.opens.matches(view)
    }

    /// Whether it might let off a request of this host and method, on some path and route.
    pub fn may_keep(&self, host: &str, method: &str) -> bool {
        self.ambiguous_paths == Some(AmbiguousPaths::Keep) && self.opens.may_match(host, method)
    }

    /// Whether it asks for paths that are read in one way only.
    pub fn rejects_ambiguous(&self) -> bool {
        self.ambiguous_paths == Some(AmbiguousPaths::Reject)
    }

    fn has_forbidden(&self, headers: &HeaderMap) -> bool {
        !self.forbidden.is_empty() && headers.keys().any(|name| self.forbidden.has(name.as_str()))
    }

    /// HTTP/2 may split one Cookie into several lines (RFC 9113 section 8.2.3), so `*` does not count them.
    fn has_duplicate(&self, headers: &HeaderMap) -> bool {
        let repeated = |name: &HeaderName| {
            headers.get_all(name).iter().nth(1).is_some() && (*name != COOKIE || self.once.names("cookie"))
        };
        let twin = |name: &HeaderName| {
            has_underscore(name)
                && headers.keys().any(|other| other != name && is_folded(other.as_str(), name.as_str()))
        };
        !self.once.is_empty()
            && headers.keys().any(|name| self.once.has(name.as_str()) && (repeated(name) || twin(name)))
    }

    /// A body without a type is refused, and so are two types, whatever they are.
    fn allows_type(&self, request: &GuardView<'_>) -> bool {
        if self.types.is_empty() {
            return true;
        }
        let mut values = request.headers.get_all(CONTENT_TYPE).iter();
        match (values.next(), values.next()) {
            (None, _) => !request.has_body,
            (Some(_), Some(_)) => false,
            (Some(value), None) => MediaType::parse(value.as_bytes())
                .is_some_and(|media| self.types.iter().any(|range| range.takes(media))),
        }
    }
}

fn has_underscore(name: &HeaderName) -> bool {
    name.as_str().contains('_')
}
