//! Counters, and their Prometheus text.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the buckets of the push latency, in microseconds. The promise is 100 ms.
const LATENCY_BUCKETS_US: [u64; 10] =
    [1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 5_000_000];

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn increment(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) pushes: Counter,
    pub(crate) acks: Counter,
    pub(crate) nacks: Counter,
    pub(crate) attested: Counter,
    pub(crate) renewed: Counter,
    pub(crate) tokens_refused: Counter,
    pub(crate) renewals_refused: Counter,
    pub(crate) handshakes_failed: Counter,
    pub(crate) applies: Counter,
    latency_buckets: [Counter; LATENCY_BUCKETS_US.len()],
    latency_count: Counter,
    latency_sum_us: AtomicU64,
}

/// What is counted elsewhere at the moment of a scrape.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Gauges {
    pub(crate) proxies_connected: usize,
    pub(crate) proxies_ready: usize,
    pub(crate) proxies_unhealthy: usize,
    pub(crate) policy_version: u64,
    pub(crate) objects: usize,
    pub(crate) services: usize,
    /// Alive in the runtime. It follows the number of connections; one that only grows is a leak.
    pub(crate) tasks: usize,
}

impl Metrics {
    /// A snapshot was acked this long after its cause.
    pub(crate) fn observe_push(&self, latency: Duration) {
        let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        for (bound, bucket) in LATENCY_BUCKETS_US.iter().zip(&self.latency_buckets) {
            if us <= *bound {
                bucket.increment();
            }
        }
        self.latency_count.increment();
        self.latency_sum_us.fetch_add(us, Ordering::Relaxed);
    }

    /// The text exposition format of Prometheus, version 0.0.4.
    pub(crate) fn render(&self, gauges: Gauges) -> String {
        let mut out = String::with_capacity(4096);
        for (name, help, value) in [
            ("proxies_connected", "Proxies with a configuration stream.", gauges.proxies_connected),
            ("proxies_ready", "Proxies whose endpoints are published.", gauges.proxies_ready),
            (
                "proxies_unhealthy",
                "Proxies whose application fails its health check.",
                gauges.proxies_unhealthy,
            ),
            ("objects", "Objects in the policy set.", gauges.objects),
            ("services", "Services made of registered instances.", gauges.services),
            ("tasks", "Tasks alive in the runtime.", gauges.tasks),
        ] {
            metric(&mut out, "gauge", name, help, value);
        }
        metric(
            &mut out,
            "gauge",
            "policy_version",
            "Version of the policy set in force.",
            gauges.policy_version,
        );
        for (name, help, counter) in [
            ("pushes_total", "Snapshots sent.", &self.pushes),
            ("acks_total", "Snapshots taken by proxies.", &self.acks),
            ("nacks_total", "Snapshots refused by proxies.", &self.nacks),
            ("attestations_total", "Certificates issued for join tokens.", &self.attested),
            ("renewals_total", "Certificates issued for earlier certificates.", &self.renewed),
            ("join_tokens_refused_total", "Join tokens refused.", &self.tokens_refused),
            ("renewals_refused_total", "Renewals refused.", &self.renewals_refused),
            ("handshakes_failed_total", "TLS handshakes that failed.", &self.handshakes_failed),
            ("applies_total", "Accepted changes of the policy set.", &self.applies),
        ] {
            metric(&mut out, "counter", name, help, counter.get());
        }
        self.render_latency(&mut out);
        out
    }

    fn render_latency(&self, out: &mut String) {
        const NAME: &str = "palisade_control_plane_push_latency_seconds";
        let _ = writeln!(out, "# HELP {NAME} From a stored change to a proxy's ack.");
        let _ = writeln!(out, "# TYPE {NAME} histogram");
        for (bound, bucket) in LATENCY_BUCKETS_US.iter().zip(&self.latency_buckets) {
            let bound = Duration::from_micros(*bound).as_secs_f64();
            let _ = writeln!(out, "{NAME}_bucket{{le=\"{bound}\"}} {}", bucket.get());
        }
        let count = self.latency_count.get();
        let sum = Duration::from_micros(self.latency_sum_us.load(Ordering::Relaxed)).as_secs_f64();
        let _ = writeln!(out, "{NAME}_bucket{{le=\"+Inf\"}} {count}");
        let _ = writeln!(out, "{NAME}_sum {sum}\n{NAME}_count {count}");
    }
}

fn metric(out: &mut String, kind: &str, name: &str, help: &str, value: impl std::fmt::Display) {
    let _ = writeln!(out, "# HELP palisade_control_plane_{name} {help}");
    let _ = writeln!(out, "# TYPE palisade_control_plane_{name} {kind}");
    let _ = writeln!(out, "palisade_control_plane_{name} {value}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_counters_and_a_cumulative_histogram() {
        let metrics = Metrics::default();
        metrics.pushes.increment();
        metrics.observe_push(Duration::from_millis(3));
        metrics.observe_push(Duration::from_secs(60));
        let text = metrics.render(Gauges { proxies_connected: 2, ..Gauges::default() });
        for line in [
            "palisade_control_plane_proxies_connected 2",
            "palisade_control_plane_pushes_total 1",
            "palisade_control_plane_push_latency_seconds_bucket{le=\"0.0025\"} 0",
            "palisade_control_plane_push_latency_seconds_bucket{le=\"0.005\"} 1",
            "palisade_control_plane_push_latency_seconds_bucket{le=\"+Inf\"} 2",
            "palisade_control_plane_push_latency_seconds_count 2",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
    }
}
