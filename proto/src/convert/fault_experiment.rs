use std::time::{Duration, SystemTime};

use palisade_policy::experiment::DelayLength;
use palisade_policy::kind::fault_experiment::{ExperimentItem, FaultSpec, ResponseFault, SlowBody};
use palisade_policy::kind::virtual_service::fault::AbortStatus;
use palisade_policy::kind::{FaultExperimentSpec, Named};

use super::WireError;
use super::scalar::{each, meta, milliseconds, named, port, unspecified};
use super::virtual_service::{share, status};
use crate::v1;
use crate::v1::fault_experiment as wire;

/// The last moment that a document can name, in milliseconds since 1970: the end of the year 9999.
const LAST_MS: u64 = 253_402_300_799_999;

impl From<&Named<FaultExperimentSpec>> for v1::FaultExperiment {
    fn from(object: &Named<FaultExperimentSpec>) -> Self {
        let spec = &object.spec;
        let since = spec.starts_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self {
            meta: meta(&object.meta),
            callers: spec.callers.clone(),
            hosts: spec.hosts.clone(),
            ports: spec.ports.iter().map(|port| u32::from(*port)).collect(),
            r#match: spec.matches.iter().map(item_to_wire).collect(),
            starts_at_ms: milliseconds(since),
            duration_ms: milliseconds(spec.duration),
            share_ppm: spec.share_ppm,
            max_active: spec.max_active,
            fault: Some(fault_to_wire(&spec.fault)),
        }
    }
}

impl TryFrom<v1::FaultExperiment> for Named<FaultExperimentSpec> {
    type Error = WireError;

    fn try_from(object: v1::FaultExperiment) -> Result<Self, WireError> {
        let fault = object.fault.ok_or_else(|| unspecified("fault"))?;
        let spec = FaultExperimentSpec {
            callers: object.callers,
            hosts: object.hosts,
            ports: each("ports", object.ports, |number| port("", number))?,
            matches: object.r#match.into_iter().map(item_from_wire).collect(),
            starts_at: moment("starts_at_ms", object.starts_at_ms)?,
            duration: Duration::from_millis(object.duration_ms),
            share_ppm: share(object.share_ppm)?,
            max_active: object.max_active,
            fault: fault_from_wire(fault).map_err(|error| error.within("fault"))?,
        };
        named(object.meta, spec)
    }
}

fn moment(field: &str, ms: u64) -> Result<SystemTime, WireError> {
    let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(ms)).filter(|_| ms <= LAST_MS);
    time.ok_or_else(|| WireError::new(field, format!("{ms} is beyond the year 9999")))
}

fn item_to_wire(item: &ExperimentItem) -> wire::Match {
    wire::Match { request: Some((&item.request).into()), headers: item.headers.clone() }
}

fn item_from_wire(item: wire::Match) -> ExperimentItem {
    ExperimentItem { request: item.request.unwrap_or_default().into(), headers: item.headers }
}

fn fault_to_wire(fault: &FaultSpec) -> wire::Fault {
    let delay = |delay: &DelayLength| match *delay {
        DelayLength::Fixed(length) => wire::fault::Delay::FixedMs(milliseconds(length)),
        DelayLength::Uniform { min, max } => wire::fault::Delay::Uniform(wire::Uniform {
            min_ms: milliseconds(min),
            max_ms: milliseconds(max),
        }),
        DelayLength::Exponential { mean, max } => wire::fault::Delay::Exponential(wire::Exponential {
            mean_ms: milliseconds(mean),
            max_ms: milliseconds(max),
        }),
    };
    let abort = |status: &AbortStatus| match status {
        AbortStatus::Http(status) => wire::fault::Abort::HttpStatus((*status).into()),
        AbortStatus::Grpc(name) => wire::fault::Abort::GrpcStatus(name.clone()),
    };
    let slow =
        |slow: &SlowBody| wire::Slow { every_bytes: slow.every_bytes, pause_ms: milliseconds(slow.pause) };
    wire::Fault {
        delay: fault.delay.as_ref().map(delay),
        abort: fault.abort.as_ref().map(abort),
        reset: fault.reset,
        drop: fault.response.drop,
        truncate_after_bytes: fault.response.truncate_after,
        slow: fault.response.slow.as_ref().map(slow),
        bytes_per_second: fault.response.bandwidth,
    }
}

fn fault_from_wire(fault: wire::Fault) -> Result<FaultSpec, WireError> {
    let ms = Duration::from_millis;
    let delay = fault.delay.map(|delay| match delay {
        wire::fault::Delay::FixedMs(length) => DelayLength::Fixed(ms(length)),
        wire::fault::Delay::Uniform(wire::Uniform { min_ms, max_ms }) => {
            DelayLength::Uniform { min: ms(min_ms), max: ms(max_ms) }
        }
        wire::fault::Delay::Exponential(wire::Exponential { mean_ms, max_ms }) => {
            DelayLength::Exponential { mean: ms(mean_ms), max: ms(max_ms) }
        }
    });
    let abort = fault.abort.map(|abort| match abort {
        wire::fault::Abort::HttpStatus(number) => status("http_status", number).map(AbortStatus::Http),
        wire::fault::Abort::GrpcStatus(name) => Ok(AbortStatus::Grpc(name)),
    });
    let slow = |slow: wire::Slow| SlowBody { every_bytes: slow.every_bytes, pause: ms(slow.pause_ms) };
    let response = ResponseFault {
        drop: fault.drop,
        truncate_after: fault.truncate_after_bytes,
        slow: fault.slow.map(slow),
        bandwidth: fault.bytes_per_second,
    };
    Ok(FaultSpec { delay, abort: abort.transpose()?, reset: fault.reset, response })
}
