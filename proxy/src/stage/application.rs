//! Whether the application beside us may be asked at all. Asked after policy: who may not call it learns nothing of it.

use crate::error::ProxyError;
use crate::telemetry::record::Record;
use crate::worker::Worker;

/// Turns a request or a connection away while the application is not well.
pub(crate) fn well(worker: &Worker, record: &mut Record) -> Result<(), ProxyError> {
    let Some(cause) = worker.shared.health.refusal() else { return Ok(()) };
    record.because(cause.details());
    Err(ProxyError::Unhealthy(cause))
}
