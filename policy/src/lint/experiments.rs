//! FaultExperiments that do nothing, or nothing any more.

use std::time::SystemTime;

use super::Desk;
use super::world::World;
use crate::document::time;
use crate::finding::code;
use crate::kind::service_entry::Protocol;
use crate::set::names::{canonical, resolve};

pub(super) fn check(world: &World<'_>, now: SystemTime, desk: &mut Desk) {
    for experiment in &world.experiments {
        let (spec, namespace) = (experiment.spec, experiment.namespace());
        if spec.ends_at() <= now {
            let message = format!("it was over at {}", time::write(spec.ends_at()));
            let problems = desk.about(experiment.index);
            problems.warning(code::EXPERIMENT_OVER, "spec.startsAt", message);
            problems.help("take it out; applying it again does not begin it anew");
        }
        for (i, host) in spec.hosts.iter().enumerate() {
            let names: Vec<String> = resolve(host, namespace).collect();
            let is_it = |known: &String| names.iter().any(|name| name == canonical(known));
            let entries = world.entries.iter().filter(|entry| entry.spec.hosts.iter().any(is_it));
            let ports: Vec<_> = entries.flat_map(|entry| &entry.spec.ports).collect();
            let takes = |number: &u16| spec.ports.is_empty() || spec.ports.contains(number);
            let has_http = ports.iter().any(|port| takes(&port.number) && port.protocol != Protocol::Tcp);
            if !ports.is_empty() && !has_http {
                let message = format!("no port of {host:?} that is meant carries HTTP");
                let problems = desk.about(experiment.index);
                problems.warning(code::EXPERIMENT_WITHOUT_HTTP, format!("spec.hosts[{i}]"), message);
                problems.help("faults are injected into requests; name a port of HTTP, HTTP/2 or gRPC");
            }
        }
    }
}
