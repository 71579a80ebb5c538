//! From YAML to a Rehearsal.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::fill::{Filling, Values, is_name, refuse};
use super::steps::Steps;
use super::{AbortWhen, Conditions, ControlPlane, Observed, Rehearsal, Traffic, check, traffic};
use crate::document::duration;
use crate::document::reader::{At, Fields, Reader};
use crate::finding::code;
use crate::finding::problem::Problems;
use crate::kind::Meta;
use crate::kind::virtual_service::percent;

const WARM_UP: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(300);
const WARM_UP_DEFAULT: Duration = Duration::from_secs(5);
const WINDOW: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(60);
const WINDOW_DEFAULT: Duration = Duration::from_secs(5);
const RECOVER_WITHIN: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(600);
const RECOVER_WITHIN_DEFAULT: Duration = Duration::from_secs(30);
/// Of what percentiles and deadlines can be: whatever is there is below it.
pub(super) const LATENCY: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(3600);
const OBSERVED_MAX: usize = 16;
/// A name is a label in a plot.
pub(super) const NAME_CHARS_MAX: usize = 60;

/// Reads the spec. `None` with an error among the reader's findings, or, where only the form is looked at, without one:
/// then there are values yet to come.
pub(crate) fn read(
    reader: &mut Reader<'_>,
    meta: Meta,
    at: &At<'_>,
    given: Option<&Values>,
    problems: &mut Problems,
) -> Option<Rehearsal> {
    let mut fields = reader.mapping(at)?;
    let own = fields.take("values").map(|at| read_values(reader, &at)).unwrap_or_default();
    let filling = &Filling { given, own };
    let control_plane = fields.take("controlPlane").map(|at| read_control_plane(reader, filling, &at));
    let traffic = read_traffic(reader, filling, &mut fields, at);
    let observed = fields.take("observe").map_or(Some(Vec::new()), |at| read_observed(reader, filling, &at));
    let warm_up = length(reader, filling, fields.take("warmUp"), &WARM_UP, WARM_UP_DEFAULT);
    let help = "what holds: steadyState: {successRate: 99, p99: 500ms}";
    let steady = reader.needed(&mut fields, "steadyState", help);
    let steady = steady.and_then(|at| read_steady(reader, filling, &at));
    let help = "what is broken: steps: [{name: ..., for: 20s, command: [...], undo: [...]}]";
    let steps = reader.needed(&mut fields, "steps", help).and_then(|at| {
        let steady = steady.as_ref().map(|(_, conditions)| conditions.clone()).unwrap_or_default();
        Steps { filling, meta: &meta, steady, problems }.read(reader, &at)
    });
    let within = fields.take("recoverWithin");
    let recover_within = length(reader, filling, within, &RECOVER_WITHIN, RECOVER_WITHIN_DEFAULT);
    let help = "when all is mended at once: abortWhen: {successRateBelow: 20}";
    let abort_when = reader.needed(&mut fields, "abortWhen", help);
    let abort_when = abort_when.and_then(|at| read_abort(reader, filling, &at));
    reader.finish(fields, &[]);
    let (window, steady) = steady?;
    let rehearsal = Rehearsal {
        control_plane: whole(control_plane)?,
        meta,
        traffic: traffic?,
        observed: observed?,
        warm_up: warm_up?,
        window,
        steady,
        steps: steps?,
        recover_within: recover_within?,
        abort_when: abort_when?,
    };
    check::check(&rehearsal, problems);
    Some(rehearsal)
}

fn read_values(reader: &mut Reader<'_>, at: &At<'_>) -> Values {
    let mut values = Vec::new();
    for (name, at) in reader.entries(at) {
        if !is_name(name) {
            refuse(
                reader,
                &at,
                format!("{name:?} is no name of a value"),
                "letters, digits, '.', '-' and '_'",
            );
        }
        values.extend(reader.text(&at).map(|text| (name.to_owned(), text)));
    }
    values.into_iter().collect()
}

fn read_traffic(
    reader: &mut Reader<'_>,
    filling: &Filling<'_>,
    fields: &mut Fields<'_>,
    at: &At<'_>,
) -> Option<Traffic> {
    let (load, live) = (fields.take("load"), fields.take("live"));
    let help = "write load (requests of its own), or live (what is there anyway)";
    match (load, live) {
        (Some(load), None) => traffic::read_load(reader, filling, &load).map(Traffic::Load),
        (None, Some(live)) => traffic::read_live(reader, filling, &live).map(Traffic::Live),
        (None, None) => {
            refuse(reader, at, "there are no requests to judge by", help);
            None
        }
        (Some(load), Some(live)) => {
            // Both are read for what is wrong in them.
            traffic::read_load(reader, filling, &load);
            traffic::read_live(reader, filling, &live);
            refuse(reader, &live, "load and live stand beside each other", help);
            None
        }
    }
}

fn read_control_plane(reader: &mut Reader<'_>, filling: &Filling<'_>, at: &At<'_>) -> Option<ControlPlane> {
    let mut fields = reader.mapping(at)?;
    let server = reader.needed(&mut fields, "server", "for example server: 127.0.0.1:15012");
    let help = "the directory with operator.crt, operator.key and roots.pem";
    let operator_dir = reader.needed(&mut fields, "operatorDir", help);
    let [server, operator_dir] = [server, operator_dir].map(|at| at.and_then(|at| filling.text(reader, &at)));
    reader.finish(fields, &[]);
    Some(ControlPlane { server: server?, operator_dir: operator_dir? })
}

fn read_observed(reader: &mut Reader<'_>, filling: &Filling<'_>, at: &At<'_>) -> Option<Vec<Observed>> {
    let entries = reader.entries(at);
    if entries.len() > OBSERVED_MAX {
        refuse(
            reader,
            at,
            format!("more than {OBSERVED_MAX} proxies"),
            "observe the two sides of what is broken",
        );
    }
    let mut observed = Some(Vec::new());
    for (name, at) in entries {
        let good = name.chars().count() <= NAME_CHARS_MAX && !name.chars().any(char::is_control);
        if !good || name.is_empty() {
            let help = format!("a short name, at most {NAME_CHARS_MAX} characters");
            refuse(reader, &at, format!("{name:?} is no name for a proxy"), help);
        }
        let admin = address(reader, filling, &at);
        observed = observed.zip(admin).map(|(mut all, admin)| {
            all.push(Observed { name: name.to_owned(), admin });
            all
        });
    }
    observed
}

/// An address of this host or another, with a port.
pub(super) fn address(reader: &mut Reader<'_>, filling: &Filling<'_>, at: &At<'_>) -> Option<SocketAddr> {
    let text = filling.text(reader, at)?;
    let address = text.parse().ok().filter(|address: &SocketAddr| address.port() != 0);
    if address.is_none() {
        refuse(reader, at, format!("{text:?} is no address with a port"), "for example 127.0.0.1:15000");
    }
    address
}

/// A duration within a range, or its default.
pub(super) fn length(
    reader: &mut Reader<'_>,
    filling: &Filling<'_>,
    at: Option<At<'_>>,
    range: &RangeInclusive<Duration>,
    default: Duration,
) -> Option<Duration> {
    at.map_or(Some(default), |at| given_length(reader, filling, &at, range))
}

pub(super) fn given_length(
    reader: &mut Reader<'_>,
    filling: &Filling<'_>,
    at: &At<'_>,
    range: &RangeInclusive<Duration>,
) -> Option<Duration> {
    let text = filling.text(reader, at)?;
    let Some(length) = duration::parse(&text) else {
        let help = Some("a number and a unit: 500ms, 60s, 5m, 1h".to_owned());
        reader.error(code::BAD_DURATION, at.mark(), &at.path, format!("{text:?} is no duration"), help);
        return None;
    };
    if !range.contains(&length) {
        let help = format!("from {:?} to {:?}", range.start(), range.end());
        refuse(reader, at, format!("{text} is out of its range"), help);
        return None;
    }
    Some(length)
}

/// A number within a range, or its default.
pub(super) fn number<T: TryFrom<u64>>(
    reader: &mut Reader<'_>,
    at: Option<At<'_>>,
    range: RangeInclusive<u64>,
    default: T,
) -> Option<T> {
    let Some(at) = at else { return Some(default) };
    let number = reader.number(&at)?;
    if !range.contains(&number) {
        let help = format!("from {} to {}", range.start(), range.end());
        refuse(reader, &at, format!("{number} is out of its range"), help);
        return None;
    }
    T::try_from(number).ok()
}

fn read_steady(
    reader: &mut Reader<'_>,
    filling: &Filling<'_>,
    at: &At<'_>,
) -> Option<(Duration, Conditions)> {
    let mut fields = reader.mapping(at)?;
    let window = length(reader, filling, fields.take("window"), &WINDOW, WINDOW_DEFAULT);
    let (conditions, complete) = read_conditions(reader, filling, &mut fields, Conditions::default());
    if complete && conditions == Conditions::default() {
        refuse(
            reader,
            at,
            "nothing is asked of the steady state",
            "write successRate, p50, p99, duplicateDeliveries or retries",
        );
    }
    reader.finish(fields, &[]);
    complete.then_some((window?, conditions))
}

/// What is written stands over `base`. False: something is yet to come, or wrong.
pub(super) fn read_conditions(
    reader: &mut Reader<'_>,
    filling: &Filling<'_>,
    fields: &mut Fields<'_>,
    base: Conditions,
) -> (Conditions, bool) {
    let (mut conditions, mut complete) = (base, true);
    if let Some(at) = fields.take("successRate") {
        conditions.success_ppm = share(reader, &at);
        complete &= conditions.success_ppm.is_some();
    }
    for (name, place) in [("p50", &mut conditions.p50), ("p99", &mut conditions.p99)] {
        if let Some(at) = fields.take(name) {
            *place = given_length(reader, filling, &at, &LATENCY);
            complete &= place.is_some();
        }
    }
    let counts = [("duplicateDeliveries", &mut conditions.duplicates), ("retries", &mut conditions.retries)];
    for (name, place) in counts {
        if let Some(at) = fields.take(name) {
            *place = reader.number(&at);
            complete &= place.is_some();
        }
    }
    (conditions, complete)
}

fn share(reader: &mut Reader<'_>, at: &At<'_>) -> Option<u32> {
    let share = reader.percent(at).and_then(percent);
    if share.is_none() {
        refuse(reader, at, "this is no percentage", "0 to 100 without quotes, with up to four decimals");
    }
    share
}

fn read_abort(reader: &mut Reader<'_>, filling: &Filling<'_>, at: &At<'_>) -> Option<AbortWhen> {
    let mut fields = reader.mapping(at)?;
    let below = fields.take("successRateBelow").map(|at| share(reader, &at));
    let above = fields.take("p99Above").map(|at| given_length(reader, filling, &at, &LATENCY));
    let duplicates = fields.take("duplicateDeliveriesAbove").map(|at| reader.number(&at));
    if below.is_none() && above.is_none() && duplicates.is_none() {
        let help = "write successRateBelow, p99Above or duplicateDeliveriesAbove";
        refuse(reader, at, "nothing ends the rehearsal early", help);
    }
    reader.finish(fields, &[]);
    Some(AbortWhen {
        success_below_ppm: whole(below)?,
        p99_above: whole(above)?,
        duplicates_above: whole(duplicates)?,
    })
}

/// Of a field that may be absent: `None` where it is there and could not be read.
pub(super) fn whole<T>(read: Option<Option<T>>) -> Option<Option<T>> {
    match read {
        None => Some(None),
        Some(Some(value)) => Some(Some(value)),
        Some(None) => None,
    }
}
