//! What a route says of failures: those that happen, and those that are made.

use std::time::Duration;

use palisade_policy::kind::virtual_service::fault::{AbortStatus, FaultAbort, FaultDelay};
use palisade_policy::kind::virtual_service::{HttpFault, HttpRetry};

use super::WireError;
use super::scalar::{optional_text, unspecified};
use super::virtual_service::{share, status};
use super::virtual_service_parts::milliseconds;
use crate::v1::virtual_service as wire;

pub(super) fn retries_to_wire(retries: &HttpRetry) -> wire::Retries {
    wire::Retries {
        attempts: retries.attempts,
        per_try_timeout_ms: retries.per_try_timeout.map(milliseconds),
        retry_on: retries.retry_on.clone().unwrap_or_default(),
        backoff_ms: retries.backoff.map(milliseconds),
        ignore_previous_hosts: retries.ignore_previous_hosts,
    }
}

pub(super) fn retries_from_wire(retries: wire::Retries) -> HttpRetry {
    HttpRetry {
        attempts: retries.attempts,
        per_try_timeout: retries.per_try_timeout_ms.map(Duration::from_millis),
        retry_on: optional_text(retries.retry_on),
        backoff: retries.backoff_ms.map(Duration::from_millis),
        ignore_previous_hosts: retries.ignore_previous_hosts,
    }
}

pub(super) fn fault_to_wire(fault: &HttpFault) -> wire::Fault {
    let delay = |delay: &FaultDelay| wire::Delay {
        share_ppm: delay.share_ppm,
        fixed_ms: milliseconds(delay.fixed_delay),
    };
    let abort = |abort: &FaultAbort| wire::Abort {
        share_ppm: abort.share_ppm,
        status: Some(match &abort.status {
            AbortStatus::Http(status) => wire::abort::Status::Http((*status).into()),
            AbortStatus::Grpc(name) => wire::abort::Status::Grpc(name.clone()),
        }),
    };
    wire::Fault { delay: fault.delay.as_ref().map(delay), abort: fault.abort.as_ref().map(abort) }
}

pub(super) fn fault_from_wire(fault: wire::Fault) -> Result<HttpFault, WireError> {
    let delay = |delay: wire::Delay| {
        let fixed_delay = Duration::from_millis(delay.fixed_ms);
        Ok::<_, WireError>(FaultDelay { share_ppm: share(delay.share_ppm)?, fixed_delay })
    };
    let abort = |abort: wire::Abort| {
        let status = match abort.status {
            Some(wire::abort::Status::Http(number)) => AbortStatus::Http(status("http", number)?),
            Some(wire::abort::Status::Grpc(name)) => AbortStatus::Grpc(name),
            None => return Err(unspecified("status")),
        };
        Ok(FaultAbort { share_ppm: share(abort.share_ppm)?, status })
    };
    Ok(HttpFault {
        delay: fault.delay.map(delay).transpose().map_err(|error| error.within("delay"))?,
        abort: fault.abort.map(abort).transpose().map_err(|error| error.within("abort"))?,
    })
}
