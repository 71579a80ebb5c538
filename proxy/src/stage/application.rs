//! Whether the application beside us may be asked at all. Asked after policy: who may not call it learns nothing of it.

use std::sync::Arc;

use http::Response;

use crate::concurrency::{AdaptiveLimit, Place};
use crate::error::ProxyError;
use crate::telemetry::record::{GRPC_STATUS, Record};
use crate::worker::Worker;

/// Turns a request or a connection away while the application is not well.
pub(crate) fn well(worker: &Worker, record: &mut Record) -> Result<(), ProxyError> {
    let Some(cause) = worker.shared.health.refusal() else { return Ok(()) };
    record.because(cause.details());
    Err(ProxyError::Unhealthy(cause))
}

/// A place among the requests that the application has at once, where those are limited.
pub(crate) fn enter(limit: Option<&Arc<AdaptiveLimit>>) -> Result<Option<Place>, ProxyError> {
    limit.map(AdaptiveLimit::enter).transpose()
}

/// Gives the place back. How long the answer took counts from when the application had the whole request: callers may be
/// as slow as they like.
pub(crate) fn answered<B>(place: Option<Place>, response: &Response<B>, record: &Record) {
    let Some(place) = place else { return };
    let good = response.status().as_u16() < 400 && !response.headers().contains_key(GRPC_STATUS);
    let tally = &record.tally;
    if let Some(sent) =
        record.upstream_sent_at.filter(|_| good && tally.request_ended.get() && !tally.request_broke.get())
    {
        let whole = tally.request_ended_at.get().map_or(sent, |ended| ended.max(sent));
        place.answered(whole.elapsed());
    }
}
