//! Counters of TCP connections, under Istio's names.

use super::labels::{manner, parties};
use super::{Series, Shard, head, line, place};
use crate::worker::Direction;

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counters {
    opened: u64,
    closed: u64,
    received: u64,
    sent: u64,
}

impl Shard {
    /// A connection was let through.
    pub(crate) fn tcp_opened(&mut self, series: Series) {
        place(&mut self.tcp, self.series_max, series).opened += 1;
    }

    /// It carried these bytes, from its caller and to it, since the last time.
    pub(crate) fn tcp_carried(&mut self, series: Series, received: u64, sent: u64) {
        let counters = place(&mut self.tcp, self.series_max, series);
        counters.received += received;
        counters.sent += sent;
    }

    pub(crate) fn tcp_closed(&mut self, series: Series) {
        place(&mut self.tcp, self.series_max, series).closed += 1;
    }

    pub(crate) fn tcp_refused(&mut self, direction: Direction, reason: &'static str) {
        *self.tcp_refused.entry((direction, reason)).or_default() += 1;
    }

    pub(super) fn add_tcp(&mut self, other: &Self) {
        for (series, theirs) in &other.tcp {
            let mine = self.tcp.entry(series.clone()).or_default();
            mine.opened += theirs.opened;
            mine.closed += theirs.closed;
            mine.received += theirs.received;
            mine.sent += theirs.sent;
        }
        for (key, count) in &other.tcp_refused {
            *self.tcp_refused.entry(*key).or_default() += count;
        }
    }
}

type Column = (&'static str, &'static str, fn(&Counters) -> u64);

pub(super) fn render(out: &mut String, shard: &Shard) {
    let mut rows: Vec<_> = shard.tcp.iter().map(|(series, counters)| (labels(series), counters)).collect();
    rows.sort_by(|a, b| a.0.cmp(&b.0));
    let columns: [Column; 4] = [
        ("istio_tcp_connections_opened_total", "TCP connections let through.", |c| c.opened),
        ("istio_tcp_connections_closed_total", "TCP connections that ended.", |c| c.closed),
        ("istio_tcp_received_bytes_total", "Bytes from callers over TCP.", |c| c.received),
        ("istio_tcp_sent_bytes_total", "Bytes to callers over TCP.", |c| c.sent),
    ];
    for (name, help, value) in columns {
        head(out, name, "counter", help);
        for (labels, counters) in &rows {
            line(out, name, labels, value(counters));
        }
    }
}

fn labels(series: &Series) -> String {
    let mut out = parties(series);
    out.push_str(",request_protocol=\"tcp\"");
    manner(&mut out, series);
    out
}
