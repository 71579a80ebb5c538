//! Decision records and metrics, written off the request path.

mod json;
mod metrics;
pub(crate) mod record;
mod writer;

use std::cell::RefCell;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use crate::settings::limits::Limits;
use metrics::Shard;
pub(crate) use metrics::{Connection, HandshakeOutcome};
use writer::{Batch, Writer};

/// The process-wide end of telemetry: the writer of records and the sum of the workers' counters. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Telemetry(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    writer: Writer,
    /// One per worker. A worker locks only its own, and nobody else does but a scrape.
    shards: Mutex<Vec<Arc<Mutex<Shard>>>>,
}

/// Counters of one thread.
#[derive(Debug)]
pub(crate) struct Counters(Arc<Mutex<Shard>>);

/// One worker's share of telemetry.
#[derive(Debug)]
pub(crate) struct WorkerTelemetry {
    batch: RefCell<Batch>,
    counters: Counters,
}

impl Telemetry {
    /// Starts the writer of decision records: appends to `access_log`, or writes to stdout.
    pub fn start(access_log: Option<&Path>) -> io::Result<Self> {
        let writer = Writer::start(access_log)?;
        Ok(Self(Arc::new(Inner { writer, shards: Mutex::new(Vec::new()) })))
    }

    /// All counters in Prometheus's text format.
    pub fn render_prometheus(&self) -> String {
        let mut sum = Shard::default();
        for shard in self.0.shards.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            sum.add(&shard.lock().unwrap_or_else(PoisonError::into_inner));
        }
        metrics::render(&sum)
    }

    /// Writes what is left and stops the writer. Call it after the workers have ended; returns when all is written
    /// or the writer is stuck.
    pub fn finish(self) {
        self.0.writer.finish();
    }

    pub(crate) fn worker(&self, limits: &Limits) -> WorkerTelemetry {
        let counters = self.counters(limits);
        WorkerTelemetry { batch: RefCell::new(self.0.writer.batch(limits.record_bytes_max)), counters }
    }

    /// For a thread that writes no records.
    pub(crate) fn counters(&self, limits: &Limits) -> Counters {
        let shard = Arc::new(Mutex::new(Shard::new(limits.metric_series_max)));
        self.0.shards.lock().unwrap_or_else(PoisonError::into_inner).push(shard.clone());
        Counters(shard)
    }
}

impl WorkerTelemetry {
    /// Adds one line; hands the batch over when it is large.
    fn write(&self, line: impl FnOnce(&mut Vec<u8>)) {
        let lost = self.batch.borrow_mut().push(line);
        if lost > 0 {
            self.count(|shard| shard.records_lost += lost);
        }
    }

    /// Hands over what is there. Called every tenth of a second, and once at the end.
    pub(crate) fn flush(&self) {
        self.batch.borrow_mut().flush();
    }

    pub(crate) fn count(&self, change: impl FnOnce(&mut Shard)) {
        self.counters.count(change);
    }
}

impl Counters {
    pub(crate) fn count(&self, change: impl FnOnce(&mut Shard)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
