//! FaultExperiments in words.

use serde::Serialize;

use super::routes::percent;
use crate::document::{duration, time};
use crate::experiment::DelayLength;
use crate::kind::fault_experiment::{ExperimentItem, FaultSpec, ResponseFault, SlowBody};
use crate::kind::request_match::MatchItem;
use crate::kind::virtual_service::fault::AbortStatus;
use crate::kind::{FaultExperimentSpec, Named};

/// Times as RFC 3339 writes them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct DescribedExperiment {
    /// `namespace/name`.
    pub name: String,
    pub starts_at: String,
    pub ends_at: String,
    pub requests: String,
    pub fault: String,
    /// Of the attempts, in percent.
    pub percent: String,
    /// At once in each proxy.
    pub max_active: u32,
}

pub(super) fn describe(experiment: &Named<FaultExperimentSpec>, max_active: u32) -> DescribedExperiment {
    let Named { meta, spec, .. } = experiment;
    DescribedExperiment {
        name: format!("{}/{}", meta.namespace, meta.name),
        starts_at: time::write(spec.starts_at),
        ends_at: time::write(spec.ends_at()),
        requests: experiment_requests(spec),
        fault: fault_words(&spec.fault),
        percent: percent(spec.share_ppm.into()),
        max_active,
    }
}

/// The requests that an experiment is about, with its ports.
pub fn experiment_requests(spec: &FaultExperimentSpec) -> String {
    let ports: Vec<String> = spec.ports.iter().map(u16::to_string).collect();
    let on = if ports.is_empty() { String::new() } else { format!(" on {}", ports.join(" ")) };
    let items: Vec<String> = spec.matches.iter().map(experiment_item).collect();
    let which = if items.is_empty() { "all".to_owned() } else { items.join(" or ") };
    format!("{which}{on}")
}

/// One item of its `match`.
pub fn experiment_item(item: &ExperimentItem) -> String {
    let mut words = request(&item.request);
    let headers: Vec<String> = item.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    if !headers.is_empty() {
        words.push_str(&format!(" with {}", headers.join(", ")));
    }
    words
}

/// What is done to them.
pub fn fault_words(fault: &FaultSpec) -> String {
    let FaultSpec { delay, abort, reset, response } = fault;
    let ResponseFault { drop, truncate_after, slow, bandwidth } = response;
    let delay = delay.as_ref().map(|delay| match *delay {
        DelayLength::Fixed(length) => format!("delay {}", duration::write(length)),
        DelayLength::Uniform { min, max } => {
            format!("delay {} to {}", duration::write(min), duration::write(max))
        }
        DelayLength::Exponential { mean, max } => {
            format!("delay {} on average, {} at most", duration::write(mean), duration::write(max))
        }
    });
    let abort = abort.as_ref().map(|abort| match abort {
        AbortStatus::Http(status) => format!("abort {status}"),
        AbortStatus::Grpc(name) => format!("abort {name}"),
    });
    let slow = slow.as_ref().map(|SlowBody { every_bytes, pause }| {
        format!("body pauses {} every {}", duration::write(*pause), bytes(*every_bytes))
    });
    let parts = [
        delay,
        abort,
        reset.then(|| "reset".to_owned()),
        drop.then(|| "answer lost".to_owned()),
        truncate_after.map(|after| format!("body ends after {}", bytes(after))),
        slow,
        bandwidth.map(|speed| format!("body at {}/s", bytes(speed))),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn bytes(number: u64) -> String {
    format!("{number} B")
}

/// Methods, paths and routes.
pub(super) fn request(request: &MatchItem) -> String {
    let or_any =
        |values: &[String], any: &str| if values.is_empty() { any.to_owned() } else { values.join("|") };
    let mut words = or_any(&request.methods, "any");
    if !request.paths.is_empty() {
        words.push_str(&format!(" {}", request.paths.join("|")));
    }
    if !request.routes.is_empty() {
        words.push_str(&format!(" on route {}", request.routes.join("|")));
    }
    words
}
