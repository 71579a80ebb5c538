//! Counters of one worker, their sum, and Prometheus's text of it, under Istio's names.

mod duplicates;
mod faults;
mod labels;
mod shadow;
mod tcp;

use std::fmt::Write as _;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use hashbrown::HashMap;
use palisade_identity::SpiffeId;
use palisade_policy::kind::rate_limit_policy::Mode;

use crate::http::patience::Ended;
use crate::listen::crowd::Crowded;
use crate::worker::Direction;
use faults::Faults;
use labels::labels;

/// Istio's (Envoy's) buckets for milliseconds.
const DURATION_BUCKETS: [f64; 19] = [
    0.5,
    1.0,
    5.0,
    10.0,
    25.0,
    50.0,
    100.0,
    250.0,
    500.0,
    1000.0,
    2500.0,
    5000.0,
    10000.0,
    30000.0,
    60000.0,
    300_000.0,
    600_000.0,
    1_800_000.0,
    3_600_000.0,
];
const BYTES_BUCKETS: [f64; 8] = [100.0, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];
/// What gRPC calls an error of which no more is known.
const GRPC_UNKNOWN: u16 = 2;

/// The labels of one series. All of them come from configuration, certificates, small sets or the codes of an upstream's
/// answer, never from a request's text (CVE-2025-43915).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Series {
    pub(crate) direction: Direction,
    pub(crate) source: Option<SpiffeId>,
    pub(crate) destination: Option<SpiffeId>,
    pub(crate) service: Option<Arc<str>>,
    pub(crate) grpc: bool,
    pub(crate) status: u16,
    pub(crate) grpc_status: Option<u16>,
    pub(crate) flag: &'static str,
    /// By a fault.
    pub(crate) delayed: bool,
    pub(crate) tls: bool,
}

impl Series {
    /// What is left of a series that came too late for one of its own: who and what are unknown, and of an upstream's
    /// codes, of which it may make up as many as it likes, only whether and what class (RFC 9110 section 15: x00).
    fn without_names(self) -> Self {
        Self {
            source: None,
            destination: None,
            service: None,
            status: self.status / 100 * 100,
            grpc_status: self.grpc_status.map(|status| if status == 0 { 0 } else { GRPC_UNKNOWN }),
            ..self
        }
    }
}

impl Hash for Series {
    /// Less than equality compares: ids hash by their text alone, the rest follows from it mostly.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.source.as_ref().map(SpiffeId::as_str).hash(state);
        self.service.hash(state);
        (self.status, self.direction).hash(state);
    }
}

/// Ends of handshakes and connections, by reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Connection {
    Opened(Direction),
    Closed(Direction),
}

/// How an inbound handshake or an upstream one ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HandshakeOutcome {
    Completed,
    Failed(&'static str),
}

/// One worker's counters.
#[derive(Debug, Default)]
pub(crate) struct Shard {
    series: HashMap<Series, Counters>,
    tcp: HashMap<Series, tcp::Counters>,
    /// Connections of TCP ports that were not let in, by why.
    tcp_refused: HashMap<(Direction, &'static str), u64>,
    series_max: usize,
    connections: HashMap<Direction, Connections>,
    handshakes: HashMap<(Direction, &'static str), u64>,
    codec_refusals: HashMap<(Direction, &'static str), u64>,
    /// Connections closed at once, by the cap that they came on top of.
    refused: HashMap<(Direction, Crowded), u64>,
    /// Connections that we ended, by why.
    ended: HashMap<(Direction, Ended), u64>,
    /// Requests that were turned away or ended for too much at once, or too little.
    requests_ended: HashMap<(Direction, &'static str), u64>,
    /// By limit; whether it refused or only would have.
    limited: HashMap<(Arc<str>, Mode), u64>,
    /// Questions to the store of mesh limits, by how they ended.
    store: HashMap<&'static str, u64>,
    /// Decisions that dry-run policies would turn round.
    shadowed: HashMap<shadow::Series, u64>,
    duplicated: HashMap<duplicates::Series, u64>,
    /// By guard and reason.
    guarded: HashMap<(Arc<str>, &'static str), u64>,
    pub(crate) plaintext_refused: u64,
    pub(crate) records_lost: u64,
    /// Copies that a route asked for and nobody sent.
    pub(crate) mirrors_dropped: u64,
    pub(crate) faults: Faults,
    pub(crate) spans_exported: u64,
    /// By reason.
    spans_dropped: HashMap<&'static str, u64>,
    pub(crate) upstream_connections: u64,
    pub(crate) upstream_connections_closed: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Connections {
    opened: u64,
    closed: u64,
}

#[derive(Clone, Debug, Default)]
struct Counters {
    requests: u64,
    duration: Histogram<{ DURATION_BUCKETS.len() }>,
    received: Histogram<{ BYTES_BUCKETS.len() }>,
    sent: Histogram<{ BYTES_BUCKETS.len() }>,
}

#[derive(Clone, Debug)]
struct Histogram<const N: usize> {
    /// Not cumulative; the sum is made when rendered.
    buckets: [u64; N],
    above: u64,
    sum: f64,
}

impl<const N: usize> Default for Histogram<N> {
    fn default() -> Self {
        Self { buckets: [0; N], above: 0, sum: 0.0 }
    }
}

impl<const N: usize> Histogram<N> {
    fn observe(&mut self, bounds: &[f64; N], value: f64) {
        let index = bounds.iter().position(|bound| value <= *bound);
        match index.and_then(|index| self.buckets.get_mut(index)) {
            Some(bucket) => *bucket += 1,
            None => self.above += 1,
        }
        self.sum += value;
    }

    fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.buckets.iter_mut().zip(other.buckets) {
            *mine += theirs;
        }
        self.above += other.above;
        self.sum += other.sum;
    }
}

/// The counters of a series, as long as there is room for one more.
fn place<T: Default>(all: &mut HashMap<Series, T>, max: usize, series: Series) -> &mut T {
    let series = if all.len() < max || all.contains_key(&series) { series } else { series.without_names() };
    all.entry(series).or_default()
}

impl Shard {
    pub(crate) fn new(series_max: usize) -> Self {
        Self { series_max, ..Self::default() }
    }

    pub(crate) fn request(&mut self, series: Series, duration_ms: f64, received: u64, sent: u64) {
        let counters = place(&mut self.series, self.series_max, series);
        counters.requests += 1;
        counters.duration.observe(&DURATION_BUCKETS, duration_ms);
        counters.received.observe(&BYTES_BUCKETS, as_f64(received));
        counters.sent.observe(&BYTES_BUCKETS, as_f64(sent));
    }

    pub(crate) fn connection(&mut self, event: Connection) {
        match event {
            Connection::Opened(direction) => self.connections.entry(direction).or_default().opened += 1,
            Connection::Closed(direction) => self.connections.entry(direction).or_default().closed += 1,
        }
    }

    pub(crate) fn refused(&mut self, direction: Direction, why: Crowded) {
        *self.refused.entry((direction, why)).or_default() += 1;
    }

    pub(crate) fn ended(&mut self, direction: Direction, why: Ended) {
        *self.ended.entry((direction, why)).or_default() += 1;
    }

    pub(crate) fn request_ended(&mut self, direction: Direction, reason: &'static str) {
        *self.requests_ended.entry((direction, reason)).or_default() += 1;
    }

    pub(crate) fn limited(&mut self, limit: &Arc<str>, mode: Mode) {
        *self.limited.entry((limit.clone(), mode)).or_default() += 1;
    }

    pub(crate) fn store(&mut self, outcome: &'static str) {
        *self.store.entry(outcome).or_default() += 1;
    }

    pub(crate) fn guarded(&mut self, guard: &Arc<str>, reason: &'static str) {
        *self.guarded.entry((guard.clone(), reason)).or_default() += 1;
    }

    pub(crate) fn handshake(&mut self, direction: Direction, outcome: HandshakeOutcome) {
        let reason = match outcome {
            HandshakeOutcome::Completed => "",
            HandshakeOutcome::Failed(reason) => reason,
        };
        *self.handshakes.entry((direction, reason)).or_default() += 1;
    }

    pub(crate) fn spans_dropped(&mut self, reason: &'static str, count: u64) {
        *self.spans_dropped.entry(reason).or_default() += count;
    }

    /// A codec refused what came before it was a request.
    pub(crate) fn codec_refused(&mut self, direction: Direction, reason: &'static str) {
        *self.codec_refusals.entry((direction, reason)).or_default() += 1;
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.add_shadowed(other);
        self.add_duplicated(other);
        for (key, count) in &other.codec_refusals {
            *self.codec_refusals.entry(*key).or_default() += count;
        }
        for (reason, n) in &other.spans_dropped {
            *self.spans_dropped.entry(*reason).or_default() += n;
        }
        for (limit, n) in &other.limited {
            *self.limited.entry(limit.clone()).or_default() += n;
        }
        for (outcome, n) in &other.store {
            *self.store.entry(*outcome).or_default() += n;
        }
        for (guard, n) in &other.guarded {
            *self.guarded.entry(guard.clone()).or_default() += n;
        }
        for (series, counters) in &other.series {
            let sum = self.series.entry(series.clone()).or_default();
            sum.requests += counters.requests;
            sum.duration.add(&counters.duration);
            sum.received.add(&counters.received);
            sum.sent.add(&counters.sent);
        }
        self.add_tcp(other);
        for (direction, theirs) in &other.connections {
            let mine = self.connections.entry(*direction).or_default();
            mine.opened += theirs.opened;
            mine.closed += theirs.closed;
        }
        for (key, count) in &other.handshakes {
            *self.handshakes.entry(*key).or_default() += count;
        }
        for (key, count) in &other.refused {
            *self.refused.entry(*key).or_default() += count;
        }
        for (key, count) in &other.ended {
            *self.ended.entry(*key).or_default() += count;
        }
        for (key, count) in &other.requests_ended {
            *self.requests_ended.entry(*key).or_default() += count;
        }
        self.plaintext_refused += other.plaintext_refused;
        self.records_lost += other.records_lost;
        self.mirrors_dropped += other.mirrors_dropped;
        self.faults.add(&other.faults);
        self.spans_exported += other.spans_exported;
        self.upstream_connections += other.upstream_connections;
        self.upstream_connections_closed += other.upstream_connections_closed;
    }
}

#[expect(
    clippy::as_conversions,
    clippy::cast_precision_loss,
    reason = "a histogram's sum needs no exact integer"
)]
fn as_f64(n: u64) -> f64 {
    n as f64
}

/// Prometheus's text exposition format 0.0.4.
pub(super) fn render(shard: &Shard) -> String {
    let mut out = String::new();
    let mut series: Vec<(String, &Counters)> =
        shard.series.iter().map(|(series, counters)| (labels(series), counters)).collect();
    series.sort_by(|a, b| a.0.cmp(&b.0));
    head(&mut out, "istio_requests_total", "counter", "Requests, by outcome.");
    for (labels, counters) in &series {
        line(&mut out, "istio_requests_total", labels, counters.requests);
    }
    let name = "istio_request_duration_milliseconds";
    head(&mut out, name, "histogram", "From the request's head to the response's end.");
    for (labels, counters) in &series {
        histogram(&mut out, name, labels, &DURATION_BUCKETS, &counters.duration);
    }
    head(&mut out, "istio_request_bytes", "histogram", "Request body bytes.");
    for (labels, counters) in &series {
        histogram(&mut out, "istio_request_bytes", labels, &BYTES_BUCKETS, &counters.received);
    }
    head(&mut out, "istio_response_bytes", "histogram", "Response body bytes.");
    for (labels, counters) in &series {
        histogram(&mut out, "istio_response_bytes", labels, &BYTES_BUCKETS, &counters.sent);
    }
    tcp::render(&mut out, shard);
    render_ours(&mut out, shard);
    out
}

fn render_limited(out: &mut String, shard: &Shard) {
    let name = "palisade_rate_limited_total";
    head(out, name, "counter", "Requests above a rate limit.");
    let mut rows: Vec<_> = shard.limited.iter().collect();
    rows.sort_by(|a, b| a.0.0.cmp(&b.0.0));
    for ((limit, mode), n) in rows {
        let mode = match mode {
            Mode::Enforce => "enforce",
            Mode::Shadow => "shadow",
            Mode::Flag => "flag",
        };
        line(out, name, &format!("limit=\"{limit}\",mode=\"{mode}\""), *n);
    }
}

fn render_guarded(out: &mut String, shard: &Shard) {
    let name = "palisade_guard_refused_total";
    head(out, name, "counter", "Requests that a guard refused.");
    let mut rows: Vec<_> = shard.guarded.iter().collect();
    rows.sort_by(|a, b| a.0.cmp(b.0));
    for ((guard, reason), n) in rows {
        line(out, name, &format!("guard=\"{guard}\",reason=\"{reason}\""), *n);
    }
}

/// Connections that were closed at once or ended, and requests.
fn render_unwanted(out: &mut String, shard: &Shard) {
    let name = "palisade_connections_refused_total";
    head(out, name, "counter", "Connections closed at once, by the cap that they came on top of.");
    by_reason(out, name, shard.refused.iter().map(|((direction, why), n)| (*direction, why.reason(), *n)));
    let name = "palisade_connections_ended_total";
    head(out, name, "counter", "Connections that were ended for what their client did or did not do.");
    by_reason(out, name, shard.ended.iter().map(|((direction, why), n)| (*direction, why.reason(), *n)));
    let name = "palisade_requests_ended_total";
    head(out, name, "counter", "Requests turned away or ended because there were too many, or nothing came.");
    by_reason(out, name, shard.requests_ended.iter().map(|((direction, why), n)| (*direction, *why, *n)));
}

fn by_reason(out: &mut String, name: &str, rows: impl Iterator<Item = (Direction, &'static str, u64)>) {
    let mut rows: Vec<_> = rows.collect();
    rows.sort_by_key(|(direction, reason, _)| (direction.name(), *reason));
    for (direction, reason, count) in rows {
        line(out, name, &format!("direction=\"{}\",reason=\"{reason}\"", direction.name()), count);
    }
}

fn render_store(out: &mut String, shard: &Shard) {
    let name = "palisade_limit_store_requests_total";
    head(out, name, "counter", "Requests for which the store of rate limits was asked, by how that ended.");
    let mut rows: Vec<_> = shard.store.iter().collect();
    rows.sort();
    for (outcome, n) in rows {
        line(out, name, &format!("outcome=\"{outcome}\""), *n);
    }
}

fn render_ours(out: &mut String, shard: &Shard) {
    let name = "palisade_tcp_refused_total";
    head(out, name, "counter", "Connections of TCP ports that were not let through.");
    by_reason(out, name, shard.tcp_refused.iter().map(|((direction, why), n)| (*direction, *why, *n)));
    render_limited(out, shard);
    render_store(out, shard);
    render_guarded(out, shard);
    shadow::render(out, shard);
    duplicates::render(out, shard);
    let connections = |direction| shard.connections.get(&direction).copied().unwrap_or_default();
    let label = |direction: Direction| format!("direction=\"{}\"", direction.name());
    head(out, "palisade_connections_total", "counter", "Connections accepted.");
    for direction in Direction::ALL {
        line(out, "palisade_connections_total", &label(direction), connections(direction).opened);
    }
    head(out, "palisade_connections_open", "gauge", "Connections open now.");
    for direction in Direction::ALL {
        let Connections { opened, closed } = connections(direction);
        line(out, "palisade_connections_open", &label(direction), opened.saturating_sub(closed));
    }
    render_unwanted(out, shard);
    head(out, "palisade_codec_refusals_total", "counter", "What was refused before it was a request.");
    let mut refusals: Vec<_> = shard.codec_refusals.iter().collect();
    refusals.sort_by_key(|((direction, reason), _)| (direction.name(), *reason));
    for ((direction, reason), count) in refusals {
        let labels = format!("direction=\"{}\",reason=\"{reason}\"", direction.name());
        line(out, "palisade_codec_refusals_total", &labels, *count);
    }
    head(out, "palisade_handshakes_total", "counter", "TLS handshakes; reason is empty for completed ones.");
    let mut handshakes: Vec<_> = shard.handshakes.iter().collect();
    handshakes.sort_by_key(|((direction, reason), _)| (direction.name(), *reason));
    for ((direction, reason), count) in handshakes {
        let labels = format!("direction=\"{}\",reason=\"{reason}\"", direction.name());
        line(out, "palisade_handshakes_total", &labels, *count);
    }
    head(out, "palisade_plaintext_refused_total", "counter", "Connections without TLS to a STRICT port.");
    line(out, "palisade_plaintext_refused_total", "", shard.plaintext_refused);
    head(out, "palisade_upstream_connections_total", "counter", "Connections made to upstreams.");
    line(out, "palisade_upstream_connections_total", "", shard.upstream_connections);
    head(out, "palisade_upstream_connections_open", "gauge", "Connections to upstreams open now.");
    let open = shard.upstream_connections.saturating_sub(shard.upstream_connections_closed);
    line(out, "palisade_upstream_connections_open", "", open);
    head(out, "palisade_mirrors_dropped_total", "counter", "Copies of requests that were not sent.");
    line(out, "palisade_mirrors_dropped_total", "", shard.mirrors_dropped);
    shard.faults.render(out);
    head(out, "palisade_records_lost_total", "counter", "Decision records that the writer did not take.");
    line(out, "palisade_records_lost_total", "", shard.records_lost);
    head(out, "palisade_spans_exported_total", "counter", "Spans that the collector took.");
    line(out, "palisade_spans_exported_total", "", shard.spans_exported);
    head(out, "palisade_spans_dropped_total", "counter", "Spans that the collector did not get.");
    for reason in ["queue_full", "refused", "rejected", "shutdown"] {
        let count = shard.spans_dropped.get(reason).copied().unwrap_or_default();
        line(out, "palisade_spans_dropped_total", &format!("reason=\"{reason}\""), count);
    }
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _infallible = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn line(out: &mut String, name: &str, labels: &str, value: u64) {
    let _infallible = if labels.is_empty() {
        writeln!(out, "{name} {value}")
    } else {
        writeln!(out, "{name}{{{labels}}} {value}")
    };
}

fn histogram<const N: usize>(
    out: &mut String,
    name: &str,
    labels: &str,
    bounds: &[f64; N],
    values: &Histogram<N>,
) {
    let mut count = 0;
    for (bound, bucket) in bounds.iter().zip(values.buckets) {
        count += bucket;
        let _infallible = writeln!(out, "{name}_bucket{{{labels},le=\"{bound}\"}} {count}");
    }
    count += values.above;
    let _infallible = writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {count}");
    let _infallible = writeln!(out, "{name}_sum{{{labels}}} {}", values.sum);
    let _infallible = writeln!(out, "{name}_count{{{labels}}} {count}");
}

#[cfg(test)]
mod tests;
