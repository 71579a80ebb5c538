//! The steps of a Rehearsal.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::fill::{Filling, refuse};
use super::read::{LATENCY, NAME_CHARS_MAX, given_length, length, read_conditions, whole};
use super::{Command, Conditions, Fault, Flap, Step, fault};
use crate::document::reader::{At, Fields, Reader};
use crate::finding::problem::Problems;
use crate::kind::Meta;

const STEPS_MAX: usize = 32;
const STEP: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(600);
const COMMAND_TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60);
const COMMAND_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
const FLAP: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60);
const WORDS_MAX: usize = 64;

/// What all steps are read with.
pub(super) struct Steps<'r> {
    pub(super) filling: &'r Filling<'r>,
    pub(super) meta: &'r Meta,
    /// What a step holds unless it says otherwise.
    pub(super) steady: Conditions,
    pub(super) problems: &'r mut Problems,
}

impl Steps<'_> {
    pub(super) fn read(&mut self, reader: &mut Reader<'_>, at: &At<'_>) -> Option<Vec<Step>> {
        let items = reader.items(at);
        if items.is_empty() || items.len() > STEPS_MAX {
            refuse(
                reader,
                at,
                format!("{} steps are written", items.len()),
                format!("1 to {STEPS_MAX} steps"),
            );
        }
        let read: Vec<_> = items.iter().map(|at| self.step(reader, at)).collect();
        read.into_iter().collect()
    }

    fn step(&mut self, reader: &mut Reader<'_>, at: &At<'_>) -> Option<Step> {
        let mut fields = reader.mapping(at)?;
        let name = reader.needed(&mut fields, "name", "what the report says: name: the ledger is dead");
        let name = name.and_then(|at| read_name(reader, &at));
        let length = reader.needed(&mut fields, "for", "how long: for: 20s");
        let length = length.and_then(|at| given_length(reader, self.filling, &at, &STEP));
        let fault = fields.take("fault").map(|at| self.fault(reader, &at));
        let command = self.command(reader, &mut fields, at, fault.is_some());
        let hold = match fields.take("hold") {
            Some(at) => self.hold(reader, &at),
            None => Some(self.steady.clone()),
        };
        reader.finish(fields, &[]);
        Some(Step { name: name?, length: length?, fault: whole(fault)?, command: command?, hold: hold? })
    }

    fn fault(&mut self, reader: &mut Reader<'_>, at: &At<'_>) -> Option<Fault> {
        fault::read(reader, self.meta, at, self.problems)
    }

    fn hold(&mut self, reader: &mut Reader<'_>, at: &At<'_>) -> Option<Conditions> {
        let mut fields = reader.mapping(at)?;
        let (mut conditions, complete) =
            read_conditions(reader, self.filling, &mut fields, self.steady.clone());
        let within = fields.take("breakerOpensWithin");
        let within = within.map(|at| given_length(reader, self.filling, &at, &LATENCY));
        reader.finish(fields, &[]);
        conditions.breaker_within = whole(within)?;
        complete.then_some(conditions)
    }

    /// `None`: what is written cannot be taken.
    fn command(
        &mut self,
        reader: &mut Reader<'_>,
        fields: &mut Fields<'_>,
        at: &At<'_>,
        has_fault: bool,
    ) -> Option<Option<Command>> {
        let (run, undo) = (fields.take("command"), fields.take("undo"));
        let timeout = fields.take("commandTimeout");
        let timeout = length(reader, self.filling, timeout, &COMMAND_TIMEOUT, COMMAND_TIMEOUT_DEFAULT);
        let flap = fields.take("flap").map(|at| self.flap(reader, &at));
        let has = (run.is_some(), undo.is_some() || flap.is_some());
        let run = run.map(|at| self.words(reader, &at));
        let undo = undo.map(|at| self.words(reader, &at));
        match has {
            (true, _) if undo.is_none() => {
                let help =
                    "write undo: what is run at the end of the step, and whenever the rehearsal ends early";
                refuse(reader, at, "nothing mends what the command breaks", help);
            }
            (false, true) => {
                refuse(reader, at, "undo and flap are of a command", "write command, or leave them out");
            }
            (false, false) if !has_fault => {
                let help = "write fault, or command and undo, of what is to be run";
                refuse(reader, at, "the step breaks nothing", help);
            }
            _ => {}
        }
        match (run, undo) {
            (None, None) => Some(None),
            (run, undo) => {
                Some(Some(Command { run: run??, undo: undo??, timeout: timeout?, flap: whole(flap)? }))
            }
        }
    }

    /// A program and its arguments.
    fn words(&mut self, reader: &mut Reader<'_>, at: &At<'_>) -> Option<Vec<String>> {
        let items = reader.items(at);
        if items.is_empty() || items.len() > WORDS_MAX {
            let help = format!("a program and its arguments, at most {WORDS_MAX} words");
            refuse(reader, at, "this is no command", help);
        }
        let read: Vec<_> = items.iter().map(|at| self.filling.text(reader, at)).collect();
        let words: Vec<String> = read.into_iter().collect::<Option<_>>()?;
        if words.iter().any(|word| word.contains('\0')) {
            refuse(reader, at, "a word has a character that no program can be given", "leave out NUL");
            return None;
        }
        (!words.is_empty()).then_some(words)
    }

    fn flap(&mut self, reader: &mut Reader<'_>, at: &At<'_>) -> Option<Flap> {
        let mut fields = reader.mapping(at)?;
        let down = reader.needed(&mut fields, "down", "from command to undo: down: 1s");
        let up = reader.needed(&mut fields, "up", "from undo to the next command: up: 2s");
        let [down, up] =
            [down, up].map(|at| at.and_then(|at| given_length(reader, self.filling, &at, &FLAP)));
        reader.finish(fields, &[]);
        Some(Flap { down: down?, up: up? })
    }
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
