//! How often: refuses what exceeds a RateLimitPolicy.

use std::sync::Arc;
use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderName, HeaderValue};
use palisade_policy::Snapshot;
use palisade_policy::kind::rate_limit_policy::{Limit, Mode};
use palisade_policy::kind::request_match::MatchView;

use crate::error::ProxyError;
use crate::limit::Asked;
use crate::telemetry::record::Record;
use crate::worker::Worker;

/// A request that came too soon.
#[derive(Debug)]
pub struct Exceeded {
    limit: Arc<Limit>,
    wait: Duration,
}

/// When a limit is asked. A request that fails in between never touches the quota of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// Before a signature is checked: limits that need neither token nor route.
    BeforeToken,
    /// After token and authorization: the others.
    AfterToken,
}

/// Takes from every limit that matches; the first one that is exceeded refuses.
pub(crate) fn check(
    worker: &Worker,
    snapshot: &Snapshot,
    moment: Moment,
    view: MatchView<'_>,
    asked: &Asked<'_>,
    record: &mut Record,
) -> Result<(), ProxyError> {
    for limit in snapshot.limits(view, moment == Moment::AfterToken) {
        let Err(wait) = worker.shared.limiter.take(limit, asked) else { continue };
        worker.telemetry.count(|shard| shard.limited(&limit.title, limit.mode));
        match limit.mode {
            Mode::Enforce => {
                record.limited(limit.title.clone());
                return Err(ProxyError::RateLimited(Exceeded { limit: limit.clone(), wait }));
            }
            Mode::Shadow => record.would_have_limited(limit.title.clone()),
        }
    }
    Ok(())
}

impl Exceeded {
    /// `Retry-After`, and the fields of draft-ietf-httpapi-ratelimit-headers.
    pub(crate) fn headers(&self) -> HeaderMap {
        let Limit { name, limit, window, .. } = &*self.limit;
        // Rounded up: whoever comes back then is let in.
        let wait = self.wait.as_millis().div_ceil(1000).max(1);
        let rows = [
            (RETRY_AFTER, wait.to_string()),
            (HeaderName::from_static("ratelimit"), format!("\"{name}\";r=0;t={wait}")),
            (
                HeaderName::from_static("ratelimit-policy"),
                format!("\"{name}\";q={limit};w={}", window.as_secs()),
            ),
        ];
        let valid = |(name, text): (HeaderName, String)| Some((name, HeaderValue::try_from(text).ok()?));
        rows.into_iter().filter_map(valid).collect()
    }
}
