//! CORS: which pages of other origins may read answers, as the Fetch standard has it.

use std::time::Duration;

use http::header::ORIGIN;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::StringMatch;
use super::text::TextMatcher;
use crate::finding::code;
use crate::finding::problem::Problems;
use crate::request::is_preflight;

/// Browsers keep the answer to a preflight for a day at most.
const MAX_AGE_MAX: Duration = Duration::from_secs(24 * 3600);
/// Origins that nobody names, of both schemes, with and without a port: a pattern that takes one of them takes everybody.
const ANYBODY: [&[u8]; 5] = [
    b"https://4c9f2e.anybody.invalid",
    b"http://4c9f2e.anybody.invalid",
    b"https://4c9f2e.anybody.invalid:8443",
    b"https://4c9f2e-anybody.com",
    b"http://4c9f2e-anybody.com",
];

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CorsPolicy {
    /// `exact: "*"` is every origin.
    pub allow_origins: Vec<StringMatch>,
    pub allow_methods: Vec<String>,
    pub allow_headers: Vec<String>,
    pub expose_headers: Vec<String>,
    /// How long a browser may keep the answer to a preflight.
    pub max_age: Option<Duration>,
    pub allow_credentials: bool,
    pub unmatched_preflights: UnmatchedPreflights,
}

/// What becomes of a preflight from an origin that is not allowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnmatchedPreflights {
    /// It is a request like others.
    #[default]
    Forward,
    /// It is answered at once, without leave.
    Ignore,
}

/// A compiled policy. Lists are joined at configuration time: nothing of a request is ever reflected but an origin
/// that is allowed.
#[derive(Clone, Debug)]
pub struct Cors {
    origins: Box<[TextMatcher]>,
    any_origin: bool,
    pub allow_methods: Option<HeaderValue>,
    pub allow_headers: Option<HeaderValue>,
    pub expose_headers: Option<HeaderValue>,
    /// In seconds.
    pub max_age: Option<HeaderValue>,
    pub allow_credentials: bool,
    pub unmatched_preflights: UnmatchedPreflights,
}

/// What `Access-Control-Allow-Origin` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllowedOrigin {
    /// `*`
    Any,
    /// The request's own; `Vary: Origin` goes with it.
    This,
}

/// The origin of a request. Two would be read differently by two readers.
pub fn one_origin(headers: &HeaderMap) -> Option<&HeaderValue> {
    let mut origins = headers.get_all(ORIGIN).iter();
    origins.next().filter(|_| origins.next().is_none())
}

impl Cors {
    pub(crate) fn new(policy: &CorsPolicy, path: &str, problems: &mut Problems) -> Self {
        if policy.allow_origins.is_empty() {
            problems.error(code::BAD_CORS, path, "the policy allows no origin");
            problems.help("write allowOrigins, or leave corsPolicy out");
        }
        let mut origins = Vec::with_capacity(policy.allow_origins.len());
        let mut any_origin = false;
        for (i, origin) in policy.allow_origins.iter().enumerate() {
            let path = format!("{path}.allowOrigins[{i}]");
            if *origin == StringMatch::Exact("*".into()) {
                any_origin = true;
                open(policy, &path, "every origin is allowed", problems);
                continue;
            }
            let Some(matcher) = TextMatcher::new(origin, false, &path, problems) else { continue };
            check_origin(policy, origin, &matcher, &path, problems);
            origins.push(matcher);
        }
        if let Some(max_age) = policy.max_age
            && max_age > MAX_AGE_MAX
        {
            problems.error(
                code::ROUTE_RANGE,
                format!("{path}.maxAge"),
                "a preflight is kept for 24h at most",
            );
        }
        let method = |text: &str| Method::from_bytes(text.as_bytes()).is_ok();
        let name = |text: &str| HeaderName::from_bytes(text.as_bytes()).is_ok();
        let credentials = policy.allow_credentials;
        let mut list = |field: &str, items: &[String], valid: &dyn Fn(&str) -> bool| {
            joined(&format!("{path}.{field}"), items, credentials, valid, problems)
        };
        Self {
            allow_methods: list("allowMethods", &policy.allow_methods, &method),
            allow_headers: list("allowHeaders", &policy.allow_headers, &name),
            expose_headers: list("exposeHeaders", &policy.expose_headers, &name),
            origins: origins.into(),
            any_origin,
            max_age: policy.max_age.map(|age| HeaderValue::from(age.as_secs())),
            allow_credentials: credentials,
            unmatched_preflights: policy.unmatched_preflights,
        }
    }

    /// Whether the edge answers this request itself: a preflight, unless its origin has no leave and it is to go on as a
    /// request like others.
    pub fn answers_preflight(&self, method: &str, headers: &HeaderMap) -> bool {
        let has_leave = || one_origin(headers).is_some_and(|origin| self.allows(origin).is_some());
        is_preflight(method, headers)
            && (self.unmatched_preflights == UnmatchedPreflights::Ignore || has_leave())
    }

    /// `None` where this origin has no leave.
    pub fn allows(&self, origin: &HeaderValue) -> Option<AllowedOrigin> {
        if self.any_origin {
            return Some(AllowedOrigin::Any);
        }
        self.origins.iter().any(|o| o.matches(origin.as_bytes())).then_some(AllowedOrigin::This)
    }
}

/// Credentials for everybody would let any page on the web act as the user who looks at it.
fn open(policy: &CorsPolicy, path: &str, what: &str, problems: &mut Problems) {
    if policy.allow_credentials {
        problems.error(
            code::CORS_OPEN,
            path,
            format!("{what}, and allowCredentials hands them the user's session"),
        );
        problems.help("name the origins with exact, or leave allowCredentials out");
    }
}

fn check_origin(
    policy: &CorsPolicy,
    origin: &StringMatch,
    matcher: &TextMatcher,
    path: &str,
    problems: &mut Problems,
) {
    if ANYBODY.iter().any(|origin| matcher.matches(origin)) {
        open(policy, path, "the pattern takes every origin", problems);
        return;
    }
    if matcher.matches(b"null") {
        open(policy, path, "the origin null is that of any sandboxed page", problems);
        return;
    }
    match origin {
        StringMatch::Exact(text) if !is_origin(text) => {
            problems.error(code::BAD_CORS, path, format!("{text:?} is no origin, so it never matches"));
            problems.help("scheme://host or scheme://host:port, in lower case, without a path");
        }
        // `https://app.example` also starts `https://app.example.attacker.example`.
        StringMatch::Prefix(text) => {
            let beyond = format!("{text}.anybody.invalid");
            if matcher.matches(beyond.as_bytes()) && !text.ends_with(':') {
                let message = format!("{text:?} also starts the origin {beyond:?}");
                if policy.allow_credentials {
                    problems.error(code::CORS_OPEN, path, message);
                } else {
                    problems.warning(code::CORS_OPEN, path, message);
                }
                problems.help("write exact, or a regex that ends where the host ends");
            }
        }
        _ => {}
    }
}

/// `scheme://host[:port]` as browsers write it.
fn is_origin(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else { return false };
    let scheme_fits = !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
    let clean = |b: u8| b.is_ascii_graphic() && !b.is_ascii_uppercase() && !b"/?#@,".contains(&b);
    scheme_fits && !rest.is_empty() && rest.bytes().all(clean)
}

fn joined(
    path: &str,
    items: &[String],
    credentials: bool,
    valid: &dyn Fn(&str) -> bool,
    problems: &mut Problems,
) -> Option<HeaderValue> {
    for (i, item) in items.iter().enumerate() {
        let path = format!("{path}[{i}]");
        if item == "*" && credentials {
            problems.error(code::BAD_CORS, path, "with credentials browsers take * for an ordinary name");
            problems.help("write the names out");
        } else if !valid(item) {
            problems.error(code::BAD_CORS, path, format!("{item:?} is no name that can be here"));
        }
    }
    if items.is_empty() { None } else { HeaderValue::from_str(&items.join(",")).ok() }
}
