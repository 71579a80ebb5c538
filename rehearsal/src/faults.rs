//! Faults that proxies inject, by way of whoever tells them to.

use std::time::{Duration, SystemTime};

use anyhow::Result;
use palisade_policy::rehearsal::{Rehearsal, Step};

/// Somebody who may change the policies of a mesh.
pub trait Faults {
    /// Whether the mesh would take a document. Changes nothing.
    fn check(&self, document: &str) -> impl Future<Output = Result<()>>;

    /// Applies a document. Returns when every connected proxy has it.
    fn begin(&self, document: &str) -> impl Future<Output = Result<()>>;

    /// Takes an experiment back, `namespace/name`. Returns when no connected proxy has it any more; also where none had.
    fn end(&self, experiment: &str) -> impl Future<Output = Result<()>>;
}

/// Clocks of the mesh's hosts may be so far behind ours: an experiment begins before it is asked for.
const CLOCK_SKEW: Duration = Duration::from_secs(5);

/// The experiment of a step, by its name. The same in every run: what a run that was killed has left behind is replaced, and
/// not added to.
#[derive(Clone, Debug)]
pub(crate) struct Experiment {
    namespace: String,
    name: String,
}

impl Experiment {
    /// `number`: of the step, from 1 on.
    pub(crate) fn of(rehearsal: &Rehearsal, number: usize) -> Self {
        let meta = &rehearsal.meta;
        Self { namespace: meta.namespace.clone(), name: format!("rehearsal-{}-{number}", meta.name) }
    }

    /// As records and metrics have it.
    pub(crate) fn id(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// `None`: the step has no fault.
    pub(crate) fn document(&self, step: &Step, now: SystemTime) -> Option<String> {
        let fault = step.fault.as_ref()?;
        let starts_at = now.checked_sub(CLOCK_SKEW).unwrap_or(now);
        let length = step.fault_length_max() + CLOCK_SKEW;
        Some(fault.document(&self.namespace, &self.name, starts_at, length))
    }
}
