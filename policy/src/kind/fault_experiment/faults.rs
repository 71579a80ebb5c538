//! `fault`: its form, and which of its parts go together.

use std::num::NonZeroU64;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::{FaultSpec, ResponseFault, SlowBody};
use crate::document::duration::write;
use crate::document::reader::{At, Fields, Reader};
use crate::experiment::{DelayLength, Harm, Pace};
use crate::finding::code;
use crate::finding::problem::Problems;
use crate::kind::virtual_service::fault::{Codes, answer, read_status_of_abort};

/// Of delays and pauses. Beyond it callers have long gone.
const LENGTH: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(3600);

const CODES: Codes = Codes { range: code::EXPERIMENT_RANGE, form: code::EXPERIMENT_FAULT };

/// What a fault does, made ready.
pub(super) struct Built {
    pub(super) delay: Option<DelayLength>,
    pub(super) harm: Option<Harm>,
    pub(super) pace: Option<Pace>,
}

pub(super) fn read(reader: &mut Reader<'_>, at: &At<'_>) -> Option<FaultSpec> {
    let mut fields = reader.mapping(at)?;
    let delay = fields.take("delay").map(|at| read_delay(reader, &at));
    let abort = fields.take("abort").map(|at| {
        let mut fields = reader.mapping(&at)?;
        let status = read_status_of_abort(reader, &mut fields, CODES);
        reader.finish(fields, &[]);
        status
    });
    let reset = read_nothing(reader, &mut fields, "reset");
    let response = fields.take("response").map(|at| read_response(reader, &at));
    reader.finish(fields, &[("percentage", "write it beside fault: it is for the whole experiment")]);
    Some(FaultSpec {
        delay: whole(delay)?,
        abort: whole(abort)?,
        reset,
        response: whole(response)?.unwrap_or_default(),
    })
}

/// A part that is there and cannot be read has left an error.
fn whole<T>(part: Option<Option<T>>) -> Option<Option<T>> {
    match part {
        Some(read) => read.map(Some),
        None => Some(None),
    }
}

/// `{}`: there is nothing to say of it.
fn read_nothing(reader: &mut Reader<'_>, fields: &mut Fields<'_>, name: &'static str) -> bool {
    let nothing = fields.take(name).and_then(|at| reader.mapping(&at));
    nothing.map(|nothing| reader.finish(nothing, &[])).is_some()
}

fn read_delay(reader: &mut Reader<'_>, at: &At<'_>) -> Option<DelayLength> {
    let mut fields = reader.mapping(at)?;
    let fixed = fields.take("fixed");
    let (uniform, exponential) = (fields.take("uniform"), fields.take("exponential"));
    let length = match (fixed, uniform, exponential) {
        (Some(at), None, None) => reader.duration(&at).map(DelayLength::Fixed),
        (None, Some(at), None) => {
            read_two(reader, &at, ["min", "max"]).map(|[min, max]| DelayLength::Uniform { min, max })
        }
        (None, None, Some(at)) => {
            read_two(reader, &at, ["mean", "max"]).map(|[mean, max]| DelayLength::Exponential { mean, max })
        }
        _ => {
            let help = Some("for example fixed: 2s, or uniform: {min: 1s, max: 3s}".to_owned());
            let message = "a delay is fixed, uniform or exponential";
            reader.error(code::EXPERIMENT_FAULT, at.mark(), &at.path, message, help);
            None
        }
    };
    reader.finish(fields, &[("fixedDelay", "write fixed")]);
    length
}

fn read_two(reader: &mut Reader<'_>, at: &At<'_>, names: [&'static str; 2]) -> Option<[Duration; 2]> {
    let mut fields = reader.mapping(at)?;
    let [first, second] = names.map(|name| {
        let at = reader.needed(&mut fields, name, "for example 500ms");
        at.and_then(|at| reader.duration(&at))
    });
    reader.finish(fields, &[]);
    Some([first?, second?])
}

fn read_response(reader: &mut Reader<'_>, at: &At<'_>) -> Option<ResponseFault> {
    let mut fields = reader.mapping(at)?;
    let drop = read_nothing(reader, &mut fields, "drop");
    let mut number_in = |part: &'static str, name: &'static str, help: &str| {
        let at = fields.take(part)?;
        Some(reader.mapping(&at).and_then(|mut fields| {
            let number = reader.needed(&mut fields, name, help).and_then(|at| reader.number(&at));
            reader.finish(fields, &[]);
            number
        }))
    };
    let truncate_after = number_in("truncate", "afterBytes", "for example afterBytes: 100");
    let bandwidth = number_in("bandwidth", "bytesPerSecond", "for example bytesPerSecond: 10240");
    let slow = fields.take("slow").map(|at| read_slow(reader, &at));
    reader.finish(fields, &[]);
    Some(ResponseFault {
        drop,
        truncate_after: whole(truncate_after)?,
        slow: whole(slow)?,
        bandwidth: whole(bandwidth)?,
    })
}

fn read_slow(reader: &mut Reader<'_>, at: &At<'_>) -> Option<SlowBody> {
    let mut fields = reader.mapping(at)?;
    let every_bytes = reader.needed(&mut fields, "everyBytes", "for example everyBytes: 1024");
    let every_bytes = every_bytes.and_then(|at| reader.number(&at));
    let pause = reader.needed(&mut fields, "pause", "for example pause: 200ms");
    let pause = pause.and_then(|at| reader.duration(&at));
    reader.finish(fields, &[]);
    Some(SlowBody { every_bytes: every_bytes?, pause: pause? })
}

pub(super) fn build(spec: &FaultSpec, problems: &mut Problems) -> Built {
    check_parts(spec, problems);
    if let Some(delay) = &spec.delay {
        check_delay(delay, problems);
    }
    let ResponseFault { drop, truncate_after, slow, bandwidth } = &spec.response;
    let abort = spec.abort.as_ref().and_then(|abort| answer(abort, "spec.fault.abort", CODES, problems));
    let harm = [
        abort.map(Harm::Abort),
        spec.reset.then_some(Harm::Reset),
        drop.then_some(Harm::Drop),
        truncate_after.map(|after_bytes| Harm::Truncate { after_bytes }),
    ];
    let slow = slow.as_ref().and_then(|slow| {
        check_length("response.slow.pause", slow.pause, problems);
        let every_bytes = some_bytes("response.slow.everyBytes", slow.every_bytes, problems)?;
        Some(Pace::Slow { every_bytes, pause: slow.pause })
    });
    let bandwidth = bandwidth.and_then(|bytes| {
        let bytes_per_second = some_bytes("response.bandwidth.bytesPerSecond", bytes, problems)?;
        Some(Pace::Bandwidth { bytes_per_second })
    });
    Built { delay: spec.delay, harm: harm.into_iter().flatten().next(), pace: slow.or(bandwidth) }
}

fn check_parts(spec: &FaultSpec, problems: &mut Problems) {
    let ResponseFault { drop, truncate_after, slow, bandwidth } = &spec.response;
    let ends = [
        ("abort", spec.abort.is_some()),
        ("reset", spec.reset),
        ("response.drop", *drop),
        ("response.truncate", truncate_after.is_some()),
    ];
    let paces = [("response.slow", slow.is_some()), ("response.bandwidth", bandwidth.is_some())];
    let written = |parts: &[(&'static str, bool)]| -> Vec<&str> {
        parts.iter().filter(|(_, there)| *there).map(|(name, _)| *name).collect()
    };
    let (ends, paces) = (written(&ends), written(&paces));
    let no_body = ends.iter().find(|end| **end != "response.truncate");
    let (message, help) = match (ends.as_slice(), paces.as_slice()) {
        ([], []) if spec.delay.is_none() => (
            "the fault does nothing".to_owned(),
            "write delay, abort, reset, or one of response: drop, truncate, slow, bandwidth",
        ),
        ([first, second, ..], _) => (
            format!("{first} and {second} cannot both happen to one request"),
            "keep one of abort, reset, response.drop and response.truncate; delay goes with each",
        ),
        (_, [first, second]) => {
            (format!("{first} and {second} both say how fast the body comes"), "keep one of them")
        }
        (_, [pace]) if no_body.is_some() => {
            let end = no_body.copied().unwrap_or_default();
            (format!("with {end} there is no body for {pace}"), "keep one of them")
        }
        _ => return,
    };
    problems.error(code::EXPERIMENT_FAULT, "spec.fault", message);
    problems.help(help);
}

fn check_delay(delay: &DelayLength, problems: &mut Problems) {
    let named = match *delay {
        DelayLength::Fixed(length) => {
            check_length("delay.fixed", length, problems);
            return;
        }
        DelayLength::Uniform { min, max } => [("uniform.min", min), ("uniform.max", max)],
        DelayLength::Exponential { mean, max } => [("exponential.mean", mean), ("exponential.max", max)],
    };
    let [(lower, low), (upper, high)] = named;
    check_length(&format!("delay.{lower}"), low, problems);
    check_length(&format!("delay.{upper}"), high, problems);
    if low > high {
        let message = format!("{} is more than the maximum, {}", write(low), write(high));
        problems.error(code::EXPERIMENT_RANGE, format!("spec.fault.delay.{lower}"), message);
    }
}

fn check_length(field: &str, length: Duration, problems: &mut Problems) {
    if !LENGTH.contains(&length) {
        let message = format!(
            "{} is not within {} and {}",
            write(length),
            write(*LENGTH.start()),
            write(*LENGTH.end())
        );
        problems.error(code::EXPERIMENT_RANGE, format!("spec.fault.{field}"), message);
    }
}

fn some_bytes(field: &str, bytes: u64, problems: &mut Problems) -> Option<NonZeroU64> {
    let some = NonZeroU64::new(bytes);
    if some.is_none() {
        problems.error(
            code::EXPERIMENT_RANGE,
            format!("spec.fault.{field}"),
            "0 bytes are no part of a body",
        );
        problems.help("write 1 or more; to break a body off at once, write truncate: {afterBytes: 0}");
    }
    some
}
