//! Gauges and counters of adaptive limits, by served port.

use std::fmt::Write as _;
use std::sync::atomic::Ordering::Relaxed;

use super::{AdaptiveLimit, AdaptiveLimits};

/// In Prometheus's text format; nothing where there are no such limits.
pub(crate) fn metrics(out: &mut String, limits: &AdaptiveLimits) {
    if limits.0.is_empty() {
        return;
    }
    let mut write = |name: &str, kind: &str, help: &str, value: &dyn Fn(&AdaptiveLimit) -> String| {
        let _infallible = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for limit in &limits.0 {
            let _infallible = writeln!(out, "{name}{{port=\"{}\"}} {}", limit.port, value(limit));
        }
    };
    write(
        "palisade_concurrency_limit",
        "gauge",
        "Requests that the application is given at once.",
        &|limit| limit.limit.load(Relaxed).to_string(),
    );
    write(
        "palisade_concurrency_under_way",
        "gauge",
        "Requests that hold a place: the application has not begun to answer them.",
        &|limit| limit.under_way.load(Relaxed).to_string(),
    );
    write(
        "palisade_concurrency_baseline_seconds",
        "gauge",
        "How long answers take while nothing waits; 0 until it is known.",
        &|limit| seconds(limit.baseline_micros.load(Relaxed)),
    );
    write(
        "palisade_concurrency_measuring",
        "gauge",
        "1 while so few are let in that the baseline can be measured.",
        &|limit| u8::from(limit.measuring.load(Relaxed)).to_string(),
    );
    write(
        "palisade_concurrency_refused_total",
        "counter",
        "Requests that were turned away because of the limit.",
        &|limit| limit.refused.load(Relaxed).to_string(),
    );
}

fn seconds(micros: u64) -> String {
    format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}
