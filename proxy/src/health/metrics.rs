//! Counters of the health checks, where there are any.

use std::fmt::Write as _;
use std::sync::atomic::Ordering::Relaxed;

use super::{Cause, Health, Standing};

/// In Prometheus's text format.
pub(crate) fn metrics(out: &mut String, health: &Health) {
    let healthy = match &*health.standing.borrow() {
        Standing::Unchecked => return,
        Standing::Healthy => 1,
        Standing::Unhealthy(_) => 0,
    };
    let mut write = |name: &str, kind: &str, help: &str, rows: &[(String, u64)]| {
        let _infallible = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in rows {
            let _infallible = writeln!(out, "{name}{labels} {value}");
        }
    };
    let name = "palisade_application_healthy";
    write(name, "gauge", "1 while the application's health checks are good.", &[(String::new(), healthy)]);
    let bad = Cause::ALL.iter().zip(&health.bad).filter(|(cause, _)| **cause != Cause::NotYet);
    let outcomes: Vec<_> = std::iter::once(("ok", &health.good))
        .chain(bad.map(|(cause, count)| (cause.name(), count)))
        .map(|(outcome, count)| (format!("{{outcome=\"{outcome}\"}}"), count.load(Relaxed)))
        .collect();
    write(
        "palisade_health_checks_total",
        "counter",
        "Checks of the application, by how they ended.",
        &outcomes,
    );
    let changes = [("healthy", &health.recoveries), ("unhealthy", &health.failures)]
        .map(|(to, count)| (format!("{{to=\"{to}\"}}"), count.load(Relaxed)));
    write("palisade_health_changes_total", "counter", "Changes of the application's health.", &changes);
}
