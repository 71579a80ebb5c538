//! A workload or an object in full.

use std::fmt::Write as _;

use palisade_policy::describe::{
    Described as Destination, DescribedDuplicates, DescribedEndpoint, DescribedExperiment, DescribedRepeats,
    DescribedRoutes, Unrouted, Value,
};
use palisade_proto::v1::StoredObject;

use super::{or_dash, printable, table};
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

/// Subsets show what differs from their port; data has all of it.
pub(crate) fn destination(found: &[Destination], callers: &str) -> String {
    let mut text = String::new();
    let Some(first) = found.first() else { return text };
    line(&mut text, "host", &first.host);
    line(&mut text, "callers", &format!("of the namespace {callers}"));
    let none = || "none: all values are defaults".to_owned();
    line(&mut text, "rule", &first.rule.as_ref().map_or_else(none, |rule| format!("DestinationRule {rule}")));
    if let Some(policy) = &first.retry_policy {
        line(&mut text, "repeats", &format!("idempotent methods, and what RetryPolicy {policy} names"));
    }
    if let Some(repeats) = &first.repeats {
        repeated(&mut text, repeats);
    }
    let mut experiments: Vec<&DescribedExperiment> =
        found.iter().flat_map(|port| &port.experiments).collect();
    experiments.sort();
    experiments.dedup();
    experiments.into_iter().for_each(|experiment| faults(&mut text, experiment));
    let mut whole: &[Value] = &[];
    for Destination { port, subset, cluster, endpoints, routes, unrouted, values, .. } in found {
        let _infallible = match subset {
            None => writeln!(text, "\nport {port}, {cluster}"),
            Some(name) => writeln!(text, "\nsubset {name} of port {port}, {cluster}"),
        };
        let names: Vec<String> = endpoints.iter().map(endpoint).collect();
        let _infallible = writeln!(
            text,
            "  endpoints: {}",
            if names.is_empty() { "none".into() } else { names.join(", ") }
        );
        if let Some(routes) = routes {
            routes_of(&mut text, routes);
        }
        if let Some(Unrouted { timeout, retries }) = unrouted {
            let _infallible = writeln!(text, "  no routes: timeout {timeout}; retries {retries}");
        }
        let own: Vec<&Value> = match subset {
            None => {
                whole = values;
                values.iter().collect()
            }
            Some(_) => values.iter().filter(|value| !whole.contains(value)).collect(),
        };
        if own.is_empty() {
            text.push_str("  all values as for the port\n");
        }
        let rows = own.into_iter().map(|value| [value.name.to_owned(), value.value.clone(), place(value)]);
        let settings =
            if rows.len() == 0 { String::new() } else { table(["SETTING", "VALUE", "FROM"], rows) };
        for row in settings.lines() {
            let _infallible = writeln!(text, "  {row}");
        }
    }
    printable(text.trim_end())
}

/// A line for each rule, and one for the watch.
fn repeated(text: &mut String, DescribedRepeats { rules, duplicates }: &DescribedRepeats) {
    rules.iter().for_each(|rule| line(text, "", rule));
    if let Some(DescribedDuplicates { window, max_keys, on_duplicate }) = duplicates {
        let watch = format!("{on_duplicate}, within {window}, {max_keys} keys of an instance");
        line(text, "twice", &watch);
    }
}

fn faults(text: &mut String, experiment: &DescribedExperiment) {
    let DescribedExperiment { name, starts_at, ends_at, requests, fault, percent, max_active } = experiment;
    line(text, "faults", &format!("FaultExperiment {name}, {starts_at} to {ends_at}, for some callers"));
    line(text, "", &format!("{fault}; {percent}% of {requests}, at most {max_active} at once in each proxy"));
}

/// A row for each route, in the order in which they are tried.
fn routes_of(text: &mut String, routes: &DescribedRoutes) {
    let _infallible = writeln!(text, "  routes of VirtualService {}, the first that fits", routes.service);
    if routes.routes.is_empty() {
        text.push_str("  none is for these callers: 404\n");
        return;
    }
    let rows = routes.routes.iter().map(|route| {
        let name = if route.takes_all { format!("{} (everything)", route.name) } else { route.name.clone() };
        [
            name,
            route.to.join(", "),
            or_dash(route.timeout.clone().unwrap_or_default()),
            or_dash(route.retries.clone().unwrap_or_default()),
            or_dash(route.fault.clone().unwrap_or_default()),
            or_dash(route.mirrors.join(", ")),
        ]
    });
    for row in table(["ROUTE", "TO", "TIMEOUT", "RETRIES", "FAULT", "MIRROR"], rows).lines() {
        let _infallible = writeln!(text, "  {row}");
    }
}

/// Where a value stands, without its own name.
fn place(value: &Value) -> String {
    let Some(from) = value.from.as_deref() else { return "default".into() };
    from.strip_suffix(value.name).map_or(from, |place| place.trim_end_matches('.')).to_owned()
}

fn endpoint(endpoint: &DescribedEndpoint) -> String {
    match endpoint.weight {
        1 => endpoint.name.clone(),
        weight => format!("{} (weight {weight})", endpoint.name),
    }
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
