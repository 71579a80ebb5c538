//! The record of a TCP connection: the same line, with what is known without reading a byte.

use std::borrow::Cow;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use http::StatusCode;

use super::{Outcome, Record};
use crate::error::ProxyError;
use crate::http::body::Tally;
use crate::telemetry::metrics::{Series, Shard};

/// What the metrics were told of a connection so far.
#[derive(Debug, Default)]
pub(super) struct Carried {
    opened: Cell<bool>,
    received: Cell<u64>,
    sent: Cell<u64>,
}

/// How a connection that was let through ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TcpEnd {
    /// Both sides had said their last word.
    Whole,
    /// The caller broke off.
    Caller,
    /// The other side broke off.
    Upstream,
    /// No byte went either way for too long.
    Idle,
    /// We ended it, for this reason.
    Closed(&'static str),
}

impl Record {
    /// Makes this the record of a connection that may be silent for as long as `idle`.
    pub(crate) fn carries_tcp(&mut self, idle: Duration) {
        self.tcp = Some(Box::default());
        self.tally = Rc::new(Tally::new(Some(idle)));
    }

    /// The connection was not let through.
    pub(crate) fn tcp_refused(mut self: Box<Self>, error: &ProxyError) {
        self.failed(&error.consequence(), StatusCode::OK, false);
        self.status = 0;
        self.ended = true;
    }

    /// The other side is there: bytes may go.
    pub(crate) fn tcp_opened(&self) {
        if let Some(carried) = &self.tcp {
            carried.opened.set(true);
            self.worker.telemetry.count(|shard| shard.tcp_opened(self.tcp_series("")));
        }
    }

    /// So many bytes went by until now, from the caller and to it.
    pub(crate) fn tcp_carried(&mut self, received: u64, sent: u64) {
        self.tally.received.set(received);
        self.sent = sent;
        if let Some(carried) = &self.tcp {
            self.worker.telemetry.count(|shard| carried.report(self, shard));
        }
    }

    pub(crate) fn tcp_ended(&mut self, end: TcpEnd) {
        self.ended = true;
        let (flag, details) = match end {
            TcpEnd::Whole => ("", "tcp_ended"),
            TcpEnd::Caller => ("DC", "downstream_remote_disconnect"),
            TcpEnd::Upstream => ("UC", "upstream_reset"),
            TcpEnd::Closed(why) => ("", why),
            TcpEnd::Idle => {
                let consequence = ProxyError::StreamIdle.consequence();
                self.outcome = Outcome::Failed;
                self.reason = consequence.reason;
                (consequence.flag, "tcp_idle")
            }
        };
        self.flag = flag;
        self.details = Cow::Borrowed(details);
    }

    fn tcp_series(&self, flag: &'static str) -> Series {
        Series { flag, ..self.series() }
    }
}

impl Carried {
    /// Tells what the metrics do not know yet.
    fn report(&self, record: &Record, shard: &mut Shard) {
        let received = record.tally.received.get();
        let more = received.saturating_sub(self.received.replace(received));
        let back = record.sent.saturating_sub(self.sent.replace(record.sent));
        if more > 0 || back > 0 {
            shard.tcp_carried(record.tcp_series(""), more, back);
        }
    }

    pub(super) fn ended(&self, record: &Record, shard: &mut Shard) {
        if self.opened.get() {
            self.report(record, shard);
            shard.tcp_closed(record.tcp_series(record.flag));
        } else {
            shard.tcp_refused(record.direction, record.reason);
        }
    }
}
