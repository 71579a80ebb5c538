//! The form of a FaultExperiment.

use std::time::{Duration, SystemTime};

use super::{ExperimentItem, FaultExperimentSpec, faults};
use crate::document::reader::{At, Fields, Reader};
use crate::finding::code;
use crate::kind::request_match;
use crate::kind::virtual_service::WHOLE_PPM;
use crate::kind::virtual_service::read::read_share;

const UNSUPPORTED: &[(&str, &str)] = &[
    ("host", "write hosts: a list"),
    ("selector", "write callers: the identities whose calls are meant"),
    ("targetRefs", "write hosts: the services that are called"),
    ("percent", "write percentage: {value: 10}"),
    ("endsAt", "write duration, from startsAt on"),
];

/// Of one whose time is said elsewhere.
const NO_TIME: &[(&str, &str)] = &[
    ("startsAt", "leave it out: the fault begins with the step"),
    ("duration", "leave it out: the fault ends with the step"),
];

pub(crate) fn read(reader: &mut Reader<'_>, at: &At<'_>) -> Option<FaultExperimentSpec> {
    read_with(reader, at, UNSUPPORTED, |reader, fields| {
        let starts_at = reader.needed(fields, "startsAt", "for example startsAt: 2026-11-30T12:00:00Z");
        let starts_at = starts_at.and_then(|at| reader.time(&at));
        let duration = reader.needed(fields, "duration", "for example duration: 5m");
        let duration = duration.and_then(|at| reader.duration(&at));
        starts_at.zip(duration)
    })
}

/// The form of one that begins and ends with something else.
pub(crate) fn read_timeless(
    reader: &mut Reader<'_>,
    at: &At<'_>,
    time: (SystemTime, Duration),
) -> Option<FaultExperimentSpec> {
    read_with(reader, at, &[UNSUPPORTED, NO_TIME].concat(), |_, _| Some(time))
}

fn read_with(
    reader: &mut Reader<'_>,
    at: &At<'_>,
    unsupported: &[(&str, &str)],
    read_time: impl FnOnce(&mut Reader<'_>, &mut Fields<'_>) -> Option<(SystemTime, Duration)>,
) -> Option<FaultExperimentSpec> {
    let mut fields = reader.mapping(at)?;
    let callers = reader.needed(&mut fields, "callers", "name the workloads whose calls are meant");
    let hosts = reader.needed(&mut fields, "hosts", "name the services that are called");
    let callers = callers.map(|at| reader.texts(Some(at)));
    let hosts = hosts.map(|at| reader.texts(Some(at)));
    let ports = fields.take("ports").map(|at| some(reader, &at, "ports", "port")).unwrap_or_default();
    let ports = ports.iter().filter_map(|at| reader.port(at)).collect();
    let matches = fields.take("match").map(|at| some(reader, &at, "match", "request")).unwrap_or_default();
    // An item that cannot be read has left an error: the document is not taken without it.
    let matches = matches.iter().filter_map(|at| read_item(reader, at)).collect();
    let time = read_time(reader, &mut fields);
    let share_ppm = match fields.take("percentage") {
        Some(at) => read_share(reader, &at, code::EXPERIMENT_RANGE),
        None => Some(WHOLE_PPM),
    };
    let max_active = fields.take("maxActive").and_then(|at| reader.number(&at));
    let fault = reader.needed(&mut fields, "fault", "for example fault: {delay: {fixed: 2s}}");
    let fault = fault.and_then(|at| faults::read(reader, &at));
    reader.finish(fields, unsupported);
    let (starts_at, duration) = time?;
    Some(FaultExperimentSpec {
        callers: callers?,
        hosts: hosts?,
        ports,
        matches,
        starts_at,
        duration,
        share_ppm: share_ppm?,
        max_active,
        fault: fault?,
    })
}

/// An empty list would mean everything, which nobody means who wrote the field.
fn some<'n>(reader: &mut Reader<'_>, at: &At<'n>, name: &str, one: &str) -> Vec<At<'n>> {
    if at.is_empty_list() {
        let help = Some(format!("leave {name} out to mean every {one}, or write an item"));
        reader.error(code::EMPTY_PART, at.mark(), &at.path, format!("{name} has no items"), help);
    }
    reader.items(at)
}

fn read_item(reader: &mut Reader<'_>, at: &At<'_>) -> Option<ExperimentItem> {
    let mut fields = reader.mapping(at)?;
    let request = request_match::read_item(reader, &mut fields);
    let headers = reader.text_map(fields.take("headers"));
    reader.finish(fields, &[]);
    Some(ExperimentItem { request, headers })
}
