//! The form of requests: refuses what a RequestGuard does not take, and looks after bodies while they stream.

use std::sync::Arc;

use http::header::{ALLOW, HeaderMap, HeaderValue};
use http::{StatusCode, request};
use http_body::Body;
use hyper::body::Incoming;
use palisade_policy::Snapshot;
use palisade_policy::compile::ambiguous::{keeping, rejecting};
use palisade_policy::compile::judged::JudgedHeaders;
use palisade_policy::kind::request_guard::rule::{GuardRule, GuardView, Measure, Violation};
use palisade_policy::kind::request_match::MatchView;
use palisade_policy::request::path::{PathError, is_ambiguous};
use smallvec::SmallVec;

use crate::error::ProxyError;
use crate::http::normalize::{Malformed, Target};
use crate::telemetry::record::Record;

/// What a guard refused.
#[derive(Debug)]
pub struct Breach {
    pub(crate) violation: Violation,
    /// With 405: what all rules together allow.
    allow: Option<HeaderValue>,
}

/// What is known of a body before any of it is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BodyOutline {
    /// There is one, or may be.
    pub(crate) open: bool,
    /// As declared; 0 where nothing is.
    pub(crate) bytes: u64,
}

/// A request that guards let pass.
#[derive(Debug, Default)]
pub(crate) struct Guarded {
    pub(crate) body: Option<Box<BodyGuard>>,
    /// What else an ambiguous path that is kept may be read as: access rules must let that pass, too.
    pub(crate) readings: Vec<String>,
}

/// What rules ask of a body while it streams by.
#[derive(Debug, Default)]
pub(crate) struct BodyGuard {
    /// The narrowest bound, and whose it is.
    bound: Option<(u64, Arc<GuardRule>)>,
    trailers: SmallVec<[Arc<GuardRule>; 1]>,
    judged: Arc<JudgedHeaders>,
}

/// Measures a head before anything is removed from it; nothing to do where there are no guards.
pub(crate) fn measure(snapshot: &Snapshot, head: &request::Parts) -> Measure {
    if !snapshot.has_guards() {
        return Measure::default();
    }
    let uri_bytes = head.uri.path_and_query().map_or(0, |path| path.as_str().len());
    Measure::of(&head.headers, uri_bytes)
}

/// A request as guards see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'r> {
    pub(crate) target: &'r Target,
    /// The id of the route, where there are routes.
    pub(crate) route: Option<&'r str>,
    pub(crate) measure: Measure,
    pub(crate) body: BodyOutline,
    /// It is a preflight that is answered without asking anybody.
    pub(crate) preflight: bool,
}

/// Asks every rule that matches, then removes what rules strip. Comes once the route is known, and decides on paths
/// that normalization left to it.
pub(crate) fn check(
    snapshot: &Snapshot,
    head: &mut request::Parts,
    asked: &Asked<'_>,
    record: &mut Record,
) -> Result<Guarded, ProxyError> {
    let target = asked.target;
    let view = MatchView {
        host: target.authority.as_str(),
        method: head.method.as_str(),
        path: target.path.path(),
        route: asked.route,
    };
    let rules: SmallVec<[&Arc<GuardRule>; 4]> = snapshot.guards(view).collect();
    let readings = check_path(snapshot, &rules, &view, target, head.uri.path(), record)?;
    let request = GuardView {
        method: view.method,
        measure: asked.measure,
        headers: &head.headers,
        has_body: asked.body.open,
        body_bytes: asked.body.bytes,
        preflight: asked.preflight,
    };
    for rule in &rules {
        if let Err(violation) = rule.check(&request) {
            record.guarded(rule, violation.code());
            let allow = (violation == Violation::Method).then(|| allowed(&rules));
            return Err(ProxyError::Guarded(Breach { violation, allow }));
        }
    }
    for rule in &rules {
        rule.strip(&mut head.headers);
    }
    let body = asked.body.open.then(|| BodyGuard::of(&rules, snapshot.judged_headers())).flatten();
    Ok(Guarded { body, readings })
}

/// Whether an ambiguous path passes, and what else it may be read as.
fn check_path(
    snapshot: &Snapshot,
    rules: &[&Arc<GuardRule>],
    view: &MatchView<'_>,
    target: &Target,
    received: &str,
    record: &mut Record,
) -> Result<Vec<String>, ProxyError> {
    let ambiguous = Malformed::Path(PathError::Ambiguous);
    if let Some(rule) = rejecting(rules).filter(|_| target.kept || is_ambiguous(received)) {
        record.guarded(rule, ambiguous.code());
        return Err(ProxyError::Malformed(ambiguous));
    }
    if !target.kept {
        return Ok(Vec::new());
    }
    let (rule, readings) = keeping(snapshot, rules, view).ok_or(ProxyError::Malformed(ambiguous))?;
    record.path_kept_by = Some(rule.name.clone());
    Ok(readings)
}

/// The other readings of a path that passed as `target`, by a snapshot that came later: `Err` where it would not pass now.
pub(crate) fn readings(
    snapshot: &Snapshot,
    view: &MatchView<'_>,
    target: &Target,
) -> Result<Vec<String>, ()> {
    if !target.kept {
        return Ok(Vec::new());
    }
    let rules: SmallVec<[&Arc<GuardRule>; 4]> = snapshot.guards(*view).collect();
    match (rejecting(&rules), keeping(snapshot, &rules, view)) {
        (None, Some((_, readings))) => Ok(readings),
        _ => Err(()),
    }
}

/// What every rule allows; empty where they agree on nothing.
fn allowed(rules: &[&Arc<GuardRule>]) -> HeaderValue {
    let named = rules.iter().find(|rule| !rule.methods().is_empty());
    let methods = named.map(|rule| rule.methods()).unwrap_or_default();
    let by_all = |method: &&str| rules.iter().all(|rule| rule.allows_method(method));
    let list: Vec<&str> = methods.iter().map(|method| &**method).filter(by_all).collect();
    HeaderValue::try_from(list.join(", ")).unwrap_or_else(|_never| HeaderValue::from_static(""))
}

impl BodyOutline {
    pub(crate) fn of(body: &Incoming) -> Self {
        Self { open: !body.is_end_stream(), bytes: body.size_hint().lower() }
    }
}

impl BodyGuard {
    /// `None` where nothing is asked of a body.
    fn of(rules: &[&Arc<GuardRule>], judged: &Arc<JudgedHeaders>) -> Option<Box<Self>> {
        let bounds = rules.iter().filter_map(|rule| Some((rule.body_bytes_max?, Arc::clone(rule))));
        let bound = bounds.min_by_key(|(most, _)| *most);
        let minding = rules.iter().filter(|rule| rule.minds_trailers());
        let trailers: SmallVec<_> = minding.map(|rule| Arc::clone(rule)).collect();
        let asked = bound.is_some() || !trailers.is_empty() || !judged.is_empty();
        asked.then(|| Box::new(Self { bound, trailers, judged: judged.clone() }))
    }

    /// The rule that a body of so many bytes breaks.
    pub(crate) fn broken_by(&self, bytes: u64) -> Option<&Arc<GuardRule>> {
        self.bound.as_ref().filter(|(most, _)| bytes > *most).map(|(_, rule)| rule)
    }

    pub(crate) fn strip_trailers(&self, trailers: &mut HeaderMap) {
        for rule in &self.trailers {
            rule.strip_trailers(trailers);
        }
        self.judged.strip_trailers(trailers);
    }
}

impl Breach {
    /// A body that grew over its bound.
    pub(crate) fn of_body() -> Self {
        Self { violation: Violation::BodyBytes, allow: None }
    }

    pub(crate) fn status(&self) -> StatusCode {
        match self.violation {
            Violation::UriBytes => StatusCode::URI_TOO_LONG,
            Violation::Headers | Violation::HeaderBytes => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Violation::Underscore | Violation::Forbidden | Violation::Duplicate => StatusCode::BAD_REQUEST,
            Violation::Method => StatusCode::METHOD_NOT_ALLOWED,
            Violation::ContentType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Violation::BodyBytes => StatusCode::PAYLOAD_TOO_LARGE,
        }
    }

    pub(crate) fn title(&self) -> &'static str {
        match self.violation {
            Violation::UriBytes => "URI too long",
            Violation::Headers | Violation::HeaderBytes => "Request header fields too large",
            Violation::Underscore | Violation::Forbidden | Violation::Duplicate => "Bad request",
            Violation::Method => "Method not allowed",
            Violation::ContentType => "Unsupported media type",
            Violation::BodyBytes => "Content too large",
        }
    }

    /// `Allow`, which a 405 must have (RFC 9110 section 15.5.6).
    pub(crate) fn headers(&self) -> HeaderMap {
        self.allow.iter().map(|methods| (ALLOW, methods.clone())).collect()
    }
}
