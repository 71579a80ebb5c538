//! From YAML to a Rehearsal.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::fill::{Filling, Values, is_name, refuse};
use super::{AbortWhen, Command, Conditions, Flap, Observed, Rehearsal, Step, Traffic, check, traffic};
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
const STEP: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(600);
const RECOVER_WITHIN: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(600);
const RECOVER_WITHIN_DEFAULT: Duration = Duration::from_secs(30);
const COMMAND_TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60);
const COMMAND_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
const FLAP: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60);
/// Of what percentiles and deadlines can be: whatever is there is below it.
const LATENCY: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(3600);
const STEPS_MAX: usize = 32;
const OBSERVED_MAX: usize = 16;
const WORDS_MAX: usize = 64;
/// A name is a label in a plot.
const NAME_CHARS_MAX: usize = 60;

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
    let traffic = read_traffic(reader, filling, &mut fields, at);
    let observed = fields.take("observe").map_or(Some(Vec::new()), |at| read_observed(reader, filling, &at));
    let warm_up = length(reader, filling, fields.take("warmUp"), &WARM_UP, WARM_UP_DEFAULT);
    let steady = match fields.take("steadyState") {
        Some(at) => read_steady(reader, filling, &at),
        None => {
            reader.missing(&fields, "steadyState", "what holds: steadyState: {successRate: 99, p99: 500ms}");
            None
        }
    };
    let steps = match fields.take("steps") {
        Some(at) => read_steps(reader, filling, &at, steady.as_ref().map(|(_, conditions)| conditions)),
        None => {
            reader.missing(
                &fields,
                "steps",
                "what is broken: steps: [{name: ..., for: 20s, command: [...]}]",
            );
            None
        }
    };
    let within = fields.take("recoverWithin");
    let recover_within = length(reader, filling, within, &RECOVER_WITHIN, RECOVER_WITHIN_DEFAULT);
    let abort_when = match fields.take("abortWhen") {
        Some(at) => read_abort(reader, filling, &at),
        None => {
            reader.missing(
                &fields,
                "abortWhen",
                "when all is mended at once: abortWhen: {successRateBelow: 20}",
            );
            None
        }
    };
    reader.finish(fields, &[]);
    let (window, steady) = steady?;
    let rehearsal = Rehearsal {
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

fn given_length(
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
            "write successRate, p50, p99 or duplicateDeliveries",
        );
    }
    reader.finish(fields, &[]);
    complete.then_some((window?, conditions))
}

/// What is written stands over `base`. False: something is yet to come, or wrong.
fn read_conditions(
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
    if let Some(at) = fields.take("duplicateDeliveries") {
        conditions.duplicates = reader.number(&at);
        complete &= conditions.duplicates.is_some();
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
fn whole<T>(read: Option<Option<T>>) -> Option<Option<T>> {
    match read {
        None => Some(None),
        Some(Some(value)) => Some(Some(value)),
        Some(None) => None,
    }
}

fn read_steps(
    reader: &mut Reader<'_>,
    filling: &Filling<'_>,
    at: &At<'_>,
    steady: Option<&Conditions>,
) -> Option<Vec<Step>> {
    let items = reader.items(at);
    if items.is_empty() || items.len() > STEPS_MAX {
        refuse(reader, at, format!("{} steps are written", items.len()), format!("1 to {STEPS_MAX} steps"));
    }
    let steady = steady.cloned().unwrap_or_default();
    let read: Vec<_> = items.iter().map(|at| read_step(reader, filling, at, &steady)).collect();
    read.into_iter().collect()
}

fn read_step(
    reader: &mut Reader<'_>,
    filling: &Filling<'_>,
    at: &At<'_>,
    steady: &Conditions,
) -> Option<Step> {
    let mut fields = reader.mapping(at)?;
    let name = match fields.take("name") {
        Some(at) => read_name(reader, &at),
        None => {
            reader.missing(&fields, "name", "what the report says: name: the ledger is dead");
            None
        }
    };
    let length = match fields.take("for") {
        Some(at) => given_length(reader, filling, &at, &STEP),
        None => {
            reader.missing(&fields, "for", "how long: for: 20s");
            None
        }
    };
    let command = read_command(reader, filling, &mut fields, at);
    let hold = match fields.take("hold") {
        Some(at) => read_hold(reader, filling, &at, steady.clone()),
        None => Some(steady.clone()),
    };
    reader.finish(fields, &[]);
    Some(Step { name: name?, length: length?, command: command?, hold: hold? })
}

fn read_name(reader: &mut Reader<'_>, at: &At<'_>) -> Option<String> {
    let name = reader.text(at)?;
    if name.chars().count() > NAME_CHARS_MAX || name.chars().any(char::is_control) {
        let help = format!("one line of at most {NAME_CHARS_MAX} characters");
        refuse(reader, at, "the name is too long for a report", help);
        return None;
    }
    Some(name)
}

fn read_hold(
    reader: &mut Reader<'_>,
    filling: &Filling<'_>,
    at: &At<'_>,
    steady: Conditions,
) -> Option<Conditions> {
    let mut fields = reader.mapping(at)?;
    let (mut conditions, complete) = read_conditions(reader, filling, &mut fields, steady);
    let within = fields.take("breakerOpensWithin").map(|at| given_length(reader, filling, &at, &LATENCY));
    reader.finish(fields, &[]);
    conditions.breaker_within = whole(within)?;
    complete.then_some(conditions)
}

fn read_command(
    reader: &mut Reader<'_>,
    filling: &Filling<'_>,
    fields: &mut Fields<'_>,
    at: &At<'_>,
) -> Option<Command> {
    let (run, undo) = (fields.take("command"), fields.take("undo"));
    let timeout = fields.take("commandTimeout");
    let timeout = length(reader, filling, timeout, &COMMAND_TIMEOUT, COMMAND_TIMEOUT_DEFAULT);
    let flap = fields.take("flap").map(|at| read_flap(reader, filling, &at));
    let (has_run, has_undo) = (run.is_some(), undo.is_some());
    let run = run.map(|at| words(reader, filling, &at));
    let undo = undo.map(|at| words(reader, filling, &at));
    if !has_run {
        refuse(reader, at, "the step breaks nothing", "write command and undo, of what is to be run");
    } else if !has_undo {
        let help = "write undo: what is run at the end of the step, and whenever the rehearsal ends early";
        refuse(reader, at, "nothing mends what the command breaks", help);
    }
    Some(Command { run: run??, undo: undo??, timeout: timeout?, flap: whole(flap)? })
}

/// A program and its arguments.
fn words(reader: &mut Reader<'_>, filling: &Filling<'_>, at: &At<'_>) -> Option<Vec<String>> {
    let items = reader.items(at);
    if items.is_empty() || items.len() > WORDS_MAX {
        refuse(
            reader,
            at,
            "this is no command",
            format!("a program and its arguments, at most {WORDS_MAX} words"),
        );
    }
    let read: Vec<_> = items.iter().map(|at| filling.text(reader, at)).collect();
    let words: Vec<String> = read.into_iter().collect::<Option<_>>()?;
    if words.iter().any(|word| word.contains('\0')) {
        refuse(reader, at, "a word has a character that no program can be given", "leave out NUL");
        return None;
    }
    (!words.is_empty()).then_some(words)
}

fn read_flap(reader: &mut Reader<'_>, filling: &Filling<'_>, at: &At<'_>) -> Option<Flap> {
    let mut fields = reader.mapping(at)?;
    let mut needed = |name: &'static str, help: &str| match fields.take(name) {
        Some(at) => given_length(reader, filling, &at, &FLAP),
        None => {
            reader.missing(&fields, name, help);
            None
        }
    };
    let down = needed("down", "from command to undo: down: 1s");
    let up = needed("up", "from undo to the next command: up: 2s");
    reader.finish(fields, &[]);
    Some(Flap { down: down?, up: up? })
}
