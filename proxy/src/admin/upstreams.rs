//! What this proxy knows of its upstreams: every endpoint, its state, and why.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use serde::Serialize;

use crate::upstream::cluster::{Cluster, Overflow};
use crate::upstream::endpoint::{Cause, Endpoint};

#[derive(Serialize)]
pub(super) struct UpstreamView {
    cluster: String,
    requests: u32,
    pending: u32,
    connections: u32,
    retries: u32,
    /// No endpoint is left out: too few would be left (`minHealthPercent`).
    panic: bool,
    endpoints: Vec<EndpointView>,
}

#[derive(Serialize)]
struct EndpointView {
    address: String,
    state: &'static str,
    /// Why it is left out.
    cause: Option<&'static str>,
    /// For how long it is left out, or tried last.
    seconds_left: Option<f64>,
    requests: u32,
    latency_ms: f64,
    /// How often it was left out, less one for each good interval since.
    ejections: u32,
}

pub(super) fn view(cluster: &Cluster) -> UpstreamView {
    let now = cluster.now();
    UpstreamView {
        cluster: cluster.name.to_string(),
        requests: cluster.requests.load(Relaxed),
        pending: cluster.pending.load(Relaxed),
        connections: cluster.connections.load(Relaxed),
        retries: cluster.retries.load(Relaxed),
        panic: cluster.panics(),
        endpoints: cluster.all().iter().map(|endpoint| endpoint_view(endpoint, now)).collect(),
    }
}

fn endpoint_view(endpoint: &Endpoint, now: u64) -> EndpointView {
    let standing = endpoint.standing(now);
    EndpointView {
        address: endpoint.address.to_string(),
        state: standing.state,
        cause: standing.cause.map(Cause::name),
        seconds_left: standing.left.map(|left| left.as_secs_f64()),
        requests: endpoint.active(),
        latency_ms: endpoint.latency().as_secs_f64() * 1000.0,
        ejections: standing.ejections,
    }
}

/// The same as metrics.
pub(super) fn metrics(out: &mut String, clusters: &[Arc<Cluster>]) {
    let head = |out: &mut String, name: &str, kind: &str, help: &str| {
        let _infallible = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
    };
    head(out, "palisade_upstream_endpoints", "gauge", "Endpoints of a destination, by state.");
    for cluster in clusters {
        let (all, now) = (cluster.all(), cluster.now());
        for state in STATES {
            let count = all.iter().filter(|endpoint| endpoint.standing(now).state == state).count();
            let name = &cluster.name;
            let _infallible =
                writeln!(out, "palisade_upstream_endpoints{{cluster=\"{name}\",state=\"{state}\"}} {count}");
        }
    }
    let name = "palisade_upstream_ejections_total";
    head(out, name, "counter", "Endpoints left out, by cause.");
    for cluster in clusters {
        for (cause, count) in Cause::ALL.iter().zip(&cluster.ejections) {
            let (cluster, cause, count) = (&cluster.name, cause.name(), count.load(Relaxed));
            let _infallible = writeln!(out, "{name}{{cluster=\"{cluster}\",cause=\"{cause}\"}} {count}");
        }
    }
    let name = "palisade_upstream_overflow_total";
    head(out, name, "counter", "Bounds of connectionPool and retryBudget that were reached.");
    for cluster in clusters {
        for (bound, count) in Overflow::ALL.iter().zip(&cluster.overflown) {
            let (cluster, bound, count) = (&cluster.name, bound.name(), count.load(Relaxed));
            let _infallible = writeln!(out, "{name}{{cluster=\"{cluster}\",bound=\"{bound}\"}} {count}");
        }
    }
    let name = "palisade_upstream_retries_total";
    head(out, name, "counter", "Tries after the first.");
    for cluster in clusters {
        let _infallible =
            writeln!(out, "{name}{{cluster=\"{}\"}} {}", cluster.name, cluster.retried.load(Relaxed));
    }
}

const STATES: [&str; 3] = ["healthy", "avoided", "ejected"];
