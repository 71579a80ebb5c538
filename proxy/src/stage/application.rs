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

/// Gives the place back, with what the answer says of how busy the application is.
pub(crate) fn answered<B>(place: Option<Place>, answer: Result<&Response<B>, &ProxyError>) {
    match (place, answer) {
        (None, _) => {}
        (Some(place), Ok(response)) => {
            place.answered(response.status().as_u16() < 400 && !response.headers().contains_key(GRPC_STATUS));
        }
        (Some(place), Err(_)) => place.failed(),
    }
}
