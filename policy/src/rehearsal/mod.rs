//! Rehearsal, palisade.mesh/v1: what is broken on purpose, step by step, and what is expected to hold meanwhile. No part of a
//! mesh's configuration, as a PolicyTest is none: `palisade rehearse` plays it.

mod check;
mod fault;
mod fill;
pub(crate) mod read;
mod steps;
mod traffic;

use std::net::SocketAddr;
use std::time::Duration;

use http::{HeaderMap, HeaderName, Method, Uri};

pub use fault::Fault;
pub use fill::Values;

use crate::document::node::Node;
use crate::finding::{Findings, Position};
use crate::kind::Meta;

/// What a document's `kind` says.
pub const KIND: &str = "Rehearsal";
pub const API_VERSION: &str = "palisade.mesh/v1";

/// A document whose form is good. What stands for `${name}` in it is not known yet.
#[derive(Clone, Debug)]
pub struct Unfilled {
    pub meta: Meta,
    pub position: Position,
    pub(crate) root: Node,
}

impl Unfilled {
    /// Whether `${name}` stands anywhere in it.
    pub fn asks_for(&self, name: &str) -> bool {
        fill::asks_for(&self.root, name)
    }

    /// With every `${name}` filled in: from `values`, else from the document's own.
    pub fn fill(&self, values: &Values) -> Result<Rehearsal, Findings> {
        crate::document::fill(self, values)
    }
}

/// One document, with all that it takes to play it.
#[derive(Clone, Debug, PartialEq)]
pub struct Rehearsal {
    pub meta: Meta,
    /// Present where a step has a fault.
    pub control_plane: Option<ControlPlane>,
    pub traffic: Traffic,
    /// The proxies that are watched, by the names that the report has for them.
    pub observed: Vec<Observed>,
    /// Traffic runs so long before anything is judged.
    pub warm_up: Duration,
    /// What is judged together: so much of the latest traffic.
    pub window: Duration,
    /// Before anything is broken, and again after each step.
    pub steady: Conditions,
    pub steps: Vec<Step>,
    /// From the end of a step until the steady state holds again.
    pub recover_within: Duration,
    pub abort_when: AbortWhen,
}

/// Who has proxies inject faults, and who we are to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlPlane {
    /// `host:port`.
    pub server: String,
    /// A directory with an operator's credential.
    pub operator_dir: String,
}

/// Where requests come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Traffic {
    Load(Load),
    Live(Live),
}

/// Requests of our own, so many a second whatever becomes of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Load {
    /// Sent in turn.
    pub requests: Vec<LoadRequest>,
    /// An HTTP proxy, such as the outbound listener of a sidecar. `None`: the address in the URL.
    pub via: Option<SocketAddr>,
    /// A header that has another value in every request.
    pub idempotency_key: Option<HeaderName>,
    pub per_second: u32,
    /// Requests on top are not sent, and count as failed.
    pub max_in_flight: usize,
    /// From its sending to the last byte of its answer.
    pub timeout: Duration,
}

#[derive(Clone, Debug, PartialEq)]
pub struct LoadRequest {
    pub method: Method,
    /// Absolute, `http`.
    pub url: Uri,
    pub headers: HeaderMap,
    pub body: String,
}

/// What is there anyway, as proxies count it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Live {
    /// Names of observed proxies.
    pub proxies: Vec<String>,
    /// As in Istio's label `destination_service`; `None`: all of them.
    pub service: Option<String>,
    pub reporter: Reporter,
}

/// Whose counts are taken: those of the caller's side, or those of the service's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reporter {
    #[default]
    Source,
    Destination,
}

impl Reporter {
    /// As in Istio's label `reporter`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Destination => "destination",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    pub name: String,
    /// Its admin listener.
    pub admin: SocketAddr,
}

/// What holds. `None`: whatever it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// At least so many of a million requests succeed.
    pub success_ppm: Option<u32>,
    /// No more than this.
    pub p50: Option<Duration>,
    /// No more than this.
    pub p99: Option<Duration>,
    /// No more than so many, by the watches of observed proxies.
    pub duplicates: Option<u64>,
    /// No more than so many tries after the first, by observed proxies.
    pub retries: Option<u64>,
    /// From the begin of a step. Not of a steady state.
    pub breaker_within: Option<Duration>,
}

/// Something is broken for a while, and mended again: by a fault, a command, or both.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    pub name: String,
    pub length: Duration,
    pub fault: Option<Fault>,
    pub command: Option<Command>,
    /// The steady state, with what the step says otherwise.
    pub hold: Conditions,
}

/// Programs to run; the first word is the program's name or path. No shell reads them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    pub run: Vec<String>,
    pub undo: Vec<String>,
    /// Each ends within this, or is killed.
    pub timeout: Duration,
    pub flap: Option<Flap>,
}

/// Command and undo take turns until the step is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flap {
    pub down: Duration,
    pub up: Duration,
}

/// The guard: once one of these is so, everything is mended at once, and the rehearsal is over. At least one is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AbortWhen {
    pub success_below_ppm: Option<u32>,
    pub p99_above: Option<Duration>,
    pub duplicates_above: Option<u64>,
}

impl Rehearsal {
    /// Every address that is connected to, with the field that it stands in.
    pub fn addresses(&self) -> Vec<(String, SocketAddr)> {
        let mut found: Vec<_> =
            self.observed.iter().map(|proxy| (format!("spec.observe.{}", proxy.name), proxy.admin)).collect();
        if let Traffic::Load(load) = &self.traffic {
            match load.via {
                Some(via) => found.push(("spec.load.via".to_owned(), via)),
                None => found.extend(load.requests.iter().enumerate().filter_map(|(i, request)| {
                    Some((format!("spec.load.requests[{i}].url"), traffic::address(&request.url)?))
                })),
            }
        }
        found
    }

    /// Every request is kept until the report is written, at some 50 bytes each.
    pub const REQUESTS_MAX: u64 = 1_000_000;

    /// From the first request to the last at the latest.
    pub fn length_max(&self) -> Duration {
        let request = match &self.traffic {
            Traffic::Load(load) => load.timeout,
            Traffic::Live(_) => Duration::ZERO,
        };
        let known = self.window + request;
        let of = |step: &Step| step.length + 2 * step.tools_timeout() + self.recover_within + known;
        self.warm_up + known + self.steps.iter().map(of).sum::<Duration>()
    }

    /// Whether anything is asked that observed proxies alone know.
    pub(crate) fn asks_proxies(&self) -> bool {
        let all = self.steps.iter().map(|step| &step.hold).chain([&self.steady]);
        let mut asked = all.map(|hold| hold.retries.is_some() || hold.breaker_within.is_some());
        self.counts_duplicates() || asked.any(|asked| asked)
    }

    /// Whether anything is said of duplicate deliveries, for which some proxy has to watch.
    pub fn counts_duplicates(&self) -> bool {
        let of_steps = self.steps.iter().any(|step| step.hold.duplicates.is_some());
        of_steps || self.steady.duplicates.is_some() || self.abort_when.duplicates_above.is_some()
    }
}

impl Step {
    /// What a fault that was begun lasts at most, whatever becomes of whoever plays the rehearsal.
    pub fn fault_length_max(&self) -> Duration {
        self.length + 2 * self.tools_timeout()
    }

    /// To break something, or to mend it.
    fn tools_timeout(&self) -> Duration {
        let command = self.command.as_ref().map_or(Duration::ZERO, |command| command.timeout);
        let fault = self.fault.as_ref().map_or(Duration::ZERO, |_| Self::FAULT_TIMEOUT);
        command + fault
    }

    /// A control plane carries out a change within this, or has failed.
    pub const FAULT_TIMEOUT: Duration = Duration::from_secs(20);
}

impl Load {
    /// Where a request is sent to. `None`: its URL names no address, which is refused where it is read.
    pub fn address(&self, request: &LoadRequest) -> Option<SocketAddr> {
        self.via.or_else(|| traffic::address(&request.url))
    }
}
