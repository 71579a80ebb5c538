//! What a step has proxies inject: a FaultExperiment whose time is that of the step.

use std::time::{Duration, SystemTime};

use serde_json::{Map, Value as Json, json};

use super::fill::refuse;
use crate::document::reader::{At, Reader};
use crate::document::{duration, time};
use crate::finding::problem::Problems;
use crate::kind::fault_experiment::{build, read_timeless};
use crate::kind::{Kind, Meta};

/// The spec of a FaultExperiment as it is written, without `startsAt` and `duration`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault(Map<String, Json>);

impl Fault {
    /// The document of an experiment that begins then and lasts so long.
    pub fn document(&self, namespace: &str, name: &str, starts_at: SystemTime, length: Duration) -> String {
        let mut spec = self.0.clone();
        spec.insert("startsAt".to_owned(), json!(time::write(starts_at)));
        spec.insert("duration".to_owned(), json!(duration::write(length)));
        let kind = Kind::FaultExperiment;
        let document = json!({
            "apiVersion": kind.api_version(),
            "kind": kind.name(),
            "metadata": { "name": name, "namespace": namespace },
            "spec": spec,
        });
        // JSON is YAML.
        document.to_string()
    }
}

/// Reads it as an experiment of the rehearsal's namespace is read, and checks it as one.
pub(super) fn read(
    reader: &mut Reader<'_>,
    meta: &Meta,
    at: &At<'_>,
    problems: &mut Problems,
) -> Option<Fault> {
    // Any time does to check the rest.
    let spec = read_timeless(reader, at, (SystemTime::UNIX_EPOCH, Duration::from_secs(60)))?;
    let mut found = Problems::default();
    build(meta, &spec, &mut found);
    problems.extend_below(&at.path, found);
    match at.json() {
        Json::Object(spec) => Some(Fault(spec)),
        _ => {
            refuse(reader, at, "this is no fault", "write callers, hosts and fault");
            None
        }
    }
}
