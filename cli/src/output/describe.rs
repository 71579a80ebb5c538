//! A workload or an object in full.

use std::fmt::Write as _;

use palisade_proto::v1::StoredObject;

use super::{or_dash, printable};
use crate::describe::{Described, Stage};

pub(crate) fn workload(described: &Described) -> String {
    let Described { spiffe_id, labels, instances, ports, policies, callers } = described;
    let mut text = String::new();
    line(&mut text, "identity", spiffe_id);
    let labels: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    line(&mut text, "labels", &or_dash(labels.join(" ")));
    for instance in instances {
        let state = match (instance.connected, instance.ready) {
            (true, true) => "ready",
            (true, false) => "not ready",
            (false, _) => "disconnected",
        };
        let version = instance.acked_version;
        line(&mut text, "instance", &format!("{}, {state}, version {version}", instance.instance_id));
    }
    for port in ports {
        line(&mut text, "port", &format!("{}, mutual TLS {}", port.number, port.mtls));
    }
    text.push_str("\npolicies, in the order in which they are asked\n");
    if policies.iter().all(|stage| stage.stage != "AuthorizationPolicy ALLOW") {
        text.push_str("  no ALLOW policy: whoever no DENY rule matches is let in\n");
    }
    for Stage { stage, objects } in policies {
        let _infallible = writeln!(text, "  {stage:<26} {}", objects.join(", "));
    }
    text.push_str("\ncallers that have joined\n");
    for caller in callers {
        let word = if caller.could_be_let_in { "may be let in" } else { "never" };
        let _infallible = writeln!(text, "  {word:<14} {}", caller.spiffe_id);
    }
    printable(text.trim_end())
}

pub(crate) fn object(row: &StoredObject, concerned: &[String]) -> String {
    let mut text = String::new();
    line(&mut text, "object", &format!("{} {}/{}", row.kind, row.namespace, row.name));
    line(
        &mut text,
        "changed",
        &format!("in version {}, {}, by {}", row.version, row.changed_at, row.changed_by),
    );
    match concerned {
        [] => line(&mut text, "concerns", "no workload that has joined"),
        ids => ids.iter().for_each(|id| line(&mut text, "concerns", id)),
    }
    let _infallible = write!(text, "\n{}", row.text.trim().trim_start_matches("---").trim_start());
    printable(text.trim_end())
}

fn line(text: &mut String, name: &str, value: &str) {
    let _infallible = writeln!(text, "{name:<9} {value}");
}
