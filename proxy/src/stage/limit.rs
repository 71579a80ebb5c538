//! How often: refuses what exceeds a RateLimitPolicy.

use std::sync::Arc;
use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderName, HeaderValue};
use palisade_policy::Snapshot;
pub(crate) use palisade_policy::compile::Moment;
use palisade_policy::kind::rate_limit_policy::{Limit, Mode, OnStoreFailure, Scope};
use palisade_policy::kind::request_match::MatchView;
use smallvec::SmallVec;

use crate::error::ProxyError;
use crate::http::headers::FLAGGED;
use crate::limit::mesh::{Answer, StoreFailure};
use crate::limit::{Asked, Standing};
use crate::telemetry::record::Record;
use crate::worker::Worker;

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// Marks taken over from the proxy before us, and bytes of one: three names of at most 253, 253 and 63.
const MARKS_MAX: usize = 16;
const MARK_MAX: usize = 600;

/// A request that came too soon.
#[derive(Debug)]
pub struct Exceeded {
    limit: Arc<Limit>,
    wait: Duration,
}

/// Takes from every limit that matches; the first one that is exceeded refuses. Limits of the mesh come last, all in one
/// question: only a request that everything here would let through costs the store anything.
pub(crate) async fn check(
    worker: &Worker,
    snapshot: &Snapshot,
    moment: Moment,
    view: MatchView<'_>,
    asked: &Asked<'_>,
    record: &mut Record,
) -> Result<(), ProxyError> {
    let mut of_mesh = SmallVec::<[&Arc<Limit>; 4]>::new();
    for limit in snapshot.limits(view, moment) {
        match limit.scope {
            Scope::Instance => heed(worker, limit, worker.shared.limiter.take(limit, asked), record)?,
            Scope::Mesh(_) => of_mesh.push(limit),
        }
    }
    if of_mesh.is_empty() {
        return Ok(());
    }
    Box::pin(check_mesh(worker, snapshot, &of_mesh, asked, record)).await
}

async fn check_mesh(
    worker: &Worker,
    snapshot: &Snapshot,
    limits: &[&Arc<Limit>],
    asked: &Asked<'_>,
    record: &mut Record,
) -> Result<(), ProxyError> {
    let domain = snapshot.workload.id.trust_domain();
    let answers = match worker.mesh.take(domain.as_str(), limits, asked).await {
        Ok(answers) => answers,
        Err(failure) => return without_store(worker, limits, failure, asked, record),
    };
    worker.telemetry.count(|shard| shard.store("ok"));
    for (limit, answer) in limits.iter().zip(answers) {
        heed(worker, limit, answer, record)?;
    }
    // What passed here is remembered here too, so that nobody has it twice when the store goes away.
    for limit in limits.iter().filter(|limit| limit.scope == Scope::Mesh(OnStoreFailure::Local)) {
        let _counted = worker.shared.limiter.take(limit, asked);
    }
    Ok(())
}

/// What `onStoreFailure` says. Limits that deny come first: a request that is refused takes nothing from the others.
fn without_store(
    worker: &Worker,
    limits: &[&Arc<Limit>],
    failure: StoreFailure,
    asked: &Asked<'_>,
    record: &mut Record,
) -> Result<(), ProxyError> {
    record.limits.store = Some(failure.code());
    worker.telemetry.count(|shard| shard.store(failure.code()));
    let that = |what: OnStoreFailure| limits.iter().filter(move |limit| limit.scope == Scope::Mesh(what));
    for limit in that(OnStoreFailure::Deny) {
        worker.telemetry.count(|shard| shard.limited(&limit.title, limit.mode));
        match limit.mode {
            Mode::Enforce => {
                record.limits.refused = Some(limit.title.clone());
                return Err(ProxyError::LimitStore);
            }
            Mode::Shadow => record.limits.shadow.push(limit.title.clone()),
            Mode::Flag => record.limits.flagged.push(limit.title.clone()),
        }
    }
    for limit in that(OnStoreFailure::Local) {
        heed(worker, limit, worker.shared.limiter.take(limit, asked), record)?;
    }
    Ok(())
}

/// Notes what a limit said; an error where that refuses the request.
fn heed(worker: &Worker, limit: &Arc<Limit>, answer: Answer, record: &mut Record) -> Result<(), ProxyError> {
    let wait = match answer {
        Ok(standing) => {
            record.limits.passed(limit, standing);
            return Ok(());
        }
        Err(wait) => wait,
    };
    worker.telemetry.count(|shard| shard.limited(&limit.title, limit.mode));
    match limit.mode {
        Mode::Enforce => {
            record.limited(limit.title.clone());
            return Err(ProxyError::RateLimited(Exceeded { limit: limit.clone(), wait }));
        }
        Mode::Shadow => record.limits.shadow.push(limit.title.clone()),
        Mode::Flag => record.limits.flagged.push(limit.title.clone()),
    }
    Ok(())
}

/// What limits said of one request.
#[derive(Debug, Default)]
pub(crate) struct Verdicts {
    /// The limit that refused it.
    pub(crate) refused: Option<Arc<str>>,
    /// Limits in shadow mode that would have.
    pub(crate) shadow: Vec<Arc<str>>,
    /// Why the store of mesh limits could not be asked.
    pub(crate) store: Option<&'static str>,
    /// Limits in flag mode that it exceeds, here or at the proxy before us.
    pub(crate) flagged: Vec<Arc<str>>,
    /// The limit that it passed with the least left, of those that may be told.
    tightest: Option<(Arc<Limit>, Standing)>,
}

impl Verdicts {
    fn passed(&mut self, limit: &Arc<Limit>, standing: Standing) {
        let left = |limit: &Limit, standing: Standing| standing.remaining / limit.cost.max(1);
        let told = limit.headers && limit.mode == Mode::Enforce;
        let least = |(tightest, least): &(Arc<Limit>, Standing)| left(tightest, *least);
        if told && self.tightest.as_ref().map(least).is_none_or(|least| left(limit, standing) < least) {
            self.tightest = Some((limit.clone(), standing));
        }
    }

    /// Tells the caller what is left. An answer that tells it already is left alone: whoever wrote it is nearer to
    /// the application.
    pub(crate) fn tell(&self, headers: &mut HeaderMap) {
        let Some((limit, standing)) = &self.tightest else { return };
        if !headers.contains_key(RATE_LIMIT) && !headers.contains_key(RATE_LIMIT_POLICY) {
            headers.extend(fields(limit, *standing));
        }
    }

    /// Takes over the marks of the proxy before us. Only for callers with an identity of the mesh, whose proxies let
    /// nobody else set them.
    pub(crate) fn keep_marks(&mut self, headers: &HeaderMap) {
        let title = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.' | b'/');
        let marks = headers.get_all(FLAGGED).into_iter().filter_map(|value| value.to_str().ok());
        let marks = marks.flat_map(|value| value.split(',')).map(str::trim);
        let valid =
            marks.filter(|mark| !mark.is_empty() && mark.len() <= MARK_MAX && mark.bytes().all(title));
        self.flagged.extend(valid.take(MARKS_MAX).map(Arc::from));
    }

    /// Tells the application which limits the request exceeds.
    pub(crate) fn mark(&self, headers: &mut HeaderMap) {
        if self.flagged.is_empty() {
            return;
        }
        // Titles are made of names, which are ASCII.
        if let Ok(value) = HeaderValue::try_from(self.flagged.join(",")) {
            headers.insert(FLAGGED, value);
        }
    }
}

/// The fields of draft-ietf-httpapi-ratelimit-headers.
fn fields(limit: &Limit, standing: Standing) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
    let Limit { name, limit, window, .. } = limit;
    let Standing { remaining, back } = standing;
    let rows = [
        (RATE_LIMIT, format!("\"{name}\";r={remaining};t={}", seconds(back))),
        (RATE_LIMIT_POLICY, format!("\"{name}\";q={limit};w={}", window.as_secs())),
    ];
    rows.into_iter().filter_map(|(name, text)| Some((name, HeaderValue::try_from(text).ok()?)))
}

/// Rounded up: whoever comes back then is let in.
fn seconds(time: Duration) -> u128 {
    time.as_nanos().div_ceil(1_000_000_000).max(1)
}

impl Exceeded {
    /// `Retry-After`, and what [`fields`] has.
    pub(crate) fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Ok(wait) = HeaderValue::try_from(seconds(self.wait).to_string()) {
            headers.insert(RETRY_AFTER, wait);
        }
        if self.limit.headers {
            headers.extend(fields(&self.limit, Standing { remaining: 0, back: self.wait }));
        }
        headers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_comes_back_when_told_is_never_too_early() {
        let rows = [
            (0, 1),
            (1, 1),
            (1_000_000_000, 1),
            (1_000_000_001, 2),
            (1_000_400_000, 2),
            (60_000_000_000, 60),
        ];
        for (nanos, told) in rows {
            assert_eq!(seconds(Duration::from_nanos(nanos)), told, "{nanos} ns");
        }
    }

    #[test]
    fn marks_of_the_proxy_before_us_are_taken_over_within_bounds() {
        let rows = [
            ("a/b/c", "a/b/c"),
            (" a/b/c , d/e/f,", "a/b/c,d/e/f"),
            ("a b,c\"d,<x>", ""),
            ("", ""),
            ("1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17", "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16"),
        ];
        for (sent, kept) in rows {
            let mut headers = HeaderMap::new();
            headers.insert(FLAGGED, HeaderValue::from_static(sent));
            let mut verdicts = Verdicts::default();
            verdicts.keep_marks(&headers);
            assert_eq!(verdicts.flagged.join(","), kept, "{sent}");
        }
    }
}
