//! What a rehearsal has shown.

mod html;
mod line;
pub(crate) mod plot;
mod text;

use std::time::{Duration, SystemTime};

use palisade_policy::rehearsal::{Rehearsal, Step};
use serde::{Serialize, Serializer};

pub use html::html;
pub use text::text;

use crate::judge::Breach;
use crate::observe::{Counts, Opening};
use crate::sample::Window;
use plot::Point;

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Everything held that was to.
    Held,
    /// Something did not, and the system may have recovered or not.
    Broken,
    /// The guard broke.
    Aborted,
    /// It was told to stop.
    Interrupted,
    /// Something could not be broken or mended as the document says.
    Failed,
    /// The steady state did not hold, or could not be looked at. Nothing was broken.
    NotBegun,
}

/// All of it, in JSON as it is printed.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// `namespace/name`.
    pub rehearsal: String,
    pub verdict: Verdict,
    /// Why it ended early, or did not begin.
    pub why: Vec<String>,
    #[serde(rename = "began_unix_seconds", serialize_with = "unix")]
    pub began: SystemTime,
    #[serde(rename = "length_seconds", serialize_with = "seconds")]
    pub length: Duration,
    pub steady: Option<Window>,
    pub steps: Vec<StepReport>,
    /// Names of the steps after the last that was begun.
    pub not_played: Vec<String>,
    /// All requests after the warm-up that have ended.
    pub whole: Window,
    /// By how much requests were sent late at most, because this program had no time; latencies hold that too. `None`: none
    /// were sent.
    #[serde(rename = "generator_late_seconds", serialize_with = "some_seconds")]
    pub generator_late: Option<Duration>,
    /// By second.
    pub points: Vec<Point>,
}

/// What a step has shown.
#[derive(Clone, Debug, Serialize)]
pub struct StepReport {
    pub name: String,
    #[serde(rename = "begin_seconds", serialize_with = "seconds")]
    pub begin: Duration,
    #[serde(rename = "end_seconds", serialize_with = "seconds")]
    pub end: Duration,
    /// Whether it was played to its end, and the system waited for.
    pub complete: bool,
    /// What does not hold.
    pub breaches: Vec<Breach>,
    /// The requests that were due from its begin to its end.
    pub window: Option<Window>,
    /// From its begin until the system had recovered; or the proxy that could not be read.
    #[serde(serialize_with = "known")]
    pub(crate) counted: Option<Result<Counts, String>>,
    /// By observed proxies, from its begin until the system had recovered. `None`: the step has no fault.
    pub injected: Option<u64>,
    /// The first breaker that opened.
    pub opened: Option<Opened>,
    /// From its end. `None`: it did not recover, or the rehearsal ended before that was known.
    #[serde(rename = "recovered_after_seconds", serialize_with = "some_seconds")]
    pub recovered_after: Option<Duration>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Opened {
    #[serde(rename = "after_seconds", serialize_with = "seconds")]
    pub after: Duration,
    #[serde(flatten)]
    pub what: Opening,
}

impl Opened {
    pub(crate) fn after(begin: Duration, what: Opening) -> Self {
        Self { after: what.at.saturating_sub(begin), what }
    }
}

impl StepReport {
    pub(crate) fn new(step: &Step, begin: Duration, end: Duration) -> Self {
        Self {
            name: step.name.clone(),
            begin,
            end,
            complete: false,
            breaches: Vec::new(),
            window: None,
            counted: None,
            injected: None,
            opened: None,
            recovered_after: None,
        }
    }

    pub fn held(&self) -> bool {
        self.complete && self.breaches.is_empty()
    }

    /// In one word.
    pub(crate) fn word(&self) -> &'static str {
        match (self.complete, self.breaches.is_empty()) {
            (true, true) => "held",
            (false, true) => "ended",
            (_, false) => "BROKEN",
        }
    }

    /// `None`: a proxy could not be read.
    pub fn counts(&self) -> Option<Counts> {
        self.counted.as_ref()?.as_ref().ok().copied()
    }
}

impl Report {
    pub(crate) fn new(rehearsal: &Rehearsal, began: SystemTime) -> Self {
        Self {
            rehearsal: format!("{}/{}", rehearsal.meta.namespace, rehearsal.meta.name),
            verdict: Verdict::NotBegun,
            why: Vec::new(),
            began,
            length: Duration::ZERO,
            steady: None,
            steps: Vec::new(),
            not_played: rehearsal.steps.iter().map(|step| step.name.clone()).collect(),
            whole: Window::default(),
            generator_late: None,
            points: Vec::new(),
        }
    }

    pub(crate) fn end(&mut self, verdict: Verdict, why: Vec<String>) {
        (self.verdict, self.why) = (verdict, why);
    }
}

fn seconds<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    some_seconds(&Some(*value), serializer)
}

fn some_seconds<S: Serializer>(value: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    value.map(|value| (value.as_secs_f64() * 1e3).round() / 1e3).serialize(serializer)
}

fn unix<S: Serializer>(value: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    let since = value.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    since.as_secs().serialize(serializer)
}

fn known<S: Serializer>(value: &Option<Result<Counts, String>>, serializer: S) -> Result<S::Ok, S::Error> {
    value.as_ref().and_then(|counted| counted.as_ref().ok()).serialize(serializer)
}
