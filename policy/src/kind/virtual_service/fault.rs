//! `fault`: requests that are delayed or answered with an error on purpose.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use super::read::{read_share, read_status};
use crate::document::reader::{At, Fields, Reader};
use crate::fault::{Abort, AbortAnswer, Delay, Fault, GRPC_STATUSES};
use crate::finding::code;
use crate::finding::problem::{Problems, did_you_mean};

/// As it is written; at least one of the two.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpFault {
    pub delay: Option<FaultDelay>,
    pub abort: Option<FaultAbort>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultDelay {
    /// Of a million requests.
    pub share_ppm: u32,
    pub fixed_delay: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultAbort {
    /// Of a million requests.
    pub share_ppm: u32,
    pub status: AbortStatus,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AbortStatus {
    Http(u16),
    /// The name of a status of gRPC.
    Grpc(String),
}

/// The codes of findings about statuses, which several kinds have.
#[derive(Clone, Copy, Debug)]
pub(in crate::kind) struct Codes {
    pub(in crate::kind) range: &'static str,
    pub(in crate::kind) form: &'static str,
}

const CODES: Codes = Codes { range: code::ROUTE_RANGE, form: code::ROUTE_FAULT };

/// Beyond it callers have long gone, and what is kept for them is not given back.
const DELAY: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(600);

const DELAY_UNSUPPORTED: &[(&str, &str)] = &[
    ("percent", "Istio gave it up: write percentage: {value: 10}"),
    ("exponentialDelay", "Istio does not take it either: write fixedDelay"),
];
const ABORT_UNSUPPORTED: &[(&str, &str)] = &[
    ("percent", "Istio gave it up: write percentage: {value: 10}"),
    ("http2Error", "Istio does not take it either: write httpStatus or grpcStatus"),
];

pub(super) fn read(reader: &mut Reader<'_>, at: &At<'_>) -> Option<HttpFault> {
    let mut fields = reader.mapping(at)?;
    let delay = fields.take("delay").map(|at| read_delay(reader, &at));
    let abort = fields.take("abort").map(|at| read_abort(reader, &at));
    let nothing = delay.is_none() && abort.is_none();
    reader.finish(fields, &[]);
    if nothing {
        let help = Some("write delay, abort or both".to_owned());
        reader.error(code::ROUTE_FAULT, at.mark(), &at.path, "the fault does nothing", help);
    }
    Some(HttpFault { delay: delay.flatten(), abort: abort.flatten() })
}

fn read_delay(reader: &mut Reader<'_>, at: &At<'_>) -> Option<FaultDelay> {
    let mut fields = reader.mapping(at)?;
    let share_ppm = needed_share(reader, &mut fields);
    let fixed_delay = match fields.take("fixedDelay") {
        Some(at) => reader.duration(&at),
        None => {
            reader.missing(&fields, "fixedDelay", "for example fixedDelay: 2s");
            None
        }
    };
    reader.finish(fields, DELAY_UNSUPPORTED);
    Some(FaultDelay { share_ppm: share_ppm?, fixed_delay: fixed_delay? })
}

fn read_abort(reader: &mut Reader<'_>, at: &At<'_>) -> Option<FaultAbort> {
    let mut fields = reader.mapping(at)?;
    let share_ppm = needed_share(reader, &mut fields);
    let status = read_status_of_abort(reader, &mut fields, CODES);
    reader.finish(fields, ABORT_UNSUPPORTED);
    Some(FaultAbort { share_ppm: share_ppm?, status: status? })
}

/// `httpStatus` or `grpcStatus`.
pub(in crate::kind) fn read_status_of_abort(
    reader: &mut Reader<'_>,
    fields: &mut Fields<'_>,
    codes: Codes,
) -> Option<AbortStatus> {
    match (fields.take("httpStatus"), fields.take("grpcStatus")) {
        (Some(at), None) => read_status(reader, &at, codes.range).map(AbortStatus::Http),
        (None, Some(at)) => reader.text(&at).map(AbortStatus::Grpc),
        _ => {
            let help = Some("for example httpStatus: 503, or grpcStatus: UNAVAILABLE".to_owned());
            let message = "an abort has one status, of HTTP or of gRPC";
            reader.error(codes.form, fields.mark, &fields.path, message, help);
            None
        }
    }
}

/// In Istio a fault without a percentage never happens, and nobody sees why.
fn needed_share(reader: &mut Reader<'_>, fields: &mut Fields<'_>) -> Option<u32> {
    match fields.take("percentage") {
        Some(at) => read_share(reader, &at, code::ROUTE_RANGE),
        None => {
            reader.missing(
                fields,
                "percentage",
                "for example percentage: {value: 10}; 100 for every request",
            );
            None
        }
    }
}

pub(super) fn build(
    written: &HttpFault,
    id: &Arc<str>,
    path: &str,
    problems: &mut Problems,
) -> Option<Fault> {
    if written.delay.is_none() && written.abort.is_none() {
        // YAML has been told; by wire it comes through here alone.
        problems.error(code::ROUTE_FAULT, path, "the fault does nothing");
        problems.help("write delay, abort or both");
    }
    let delay = written.delay.as_ref().map(|delay| {
        if !DELAY.contains(&delay.fixed_delay) {
            let message = format!("{:?} is not within 1ms and 10m", delay.fixed_delay);
            problems.error(code::ROUTE_RANGE, format!("{path}.delay.fixedDelay"), message);
            problems.help("callers that wait for longer than some minutes are gone");
        }
        Delay { share_ppm: delay.share_ppm, length: delay.fixed_delay }
    });
    let abort = match &written.abort {
        Some(abort) => {
            let answer = answer(&abort.status, &format!("{path}.abort"), CODES, problems)?;
            Some(Abort { share_ppm: abort.share_ppm, answer })
        }
        None => None,
    };
    Some(Fault { id: id.clone(), delay, abort })
}

pub(in crate::kind) fn answer(
    status: &AbortStatus,
    path: &str,
    codes: Codes,
    problems: &mut Problems,
) -> Option<AbortAnswer> {
    match status {
        AbortStatus::Http(status) => {
            if !(200..=599).contains(status) {
                let message = format!("{status} is not within 200 and 599");
                problems.error(codes.range, format!("{path}.httpStatus"), message);
                problems.help("for example 503");
            }
            Some(AbortAnswer::Http(*status))
        }
        AbortStatus::Grpc(name) => {
            let number = GRPC_STATUSES.iter().position(|known| known == name);
            if number.is_none() {
                let message = format!("{name:?} is no status of gRPC");
                problems.error(codes.form, format!("{path}.grpcStatus"), message);
                problems.help(match did_you_mean(name, GRPC_STATUSES) {
                    Some(near) => format!("did you mean {near}?"),
                    None => format!("one of {}", GRPC_STATUSES.join(", ")),
                });
            }
            number.and_then(|number| u16::try_from(number).ok()).map(AbortAnswer::Grpc)
        }
    }
}
