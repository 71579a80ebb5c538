//! Decision records, metrics and traces, written off the request path.

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod json;
mod metrics;
pub(crate) mod record;
mod second;
pub(crate) mod trace;
mod writer;

use std::cell::RefCell;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::live::Live;
use crate::settings::limits::Limits;
use crate::settings::trace::TraceSettings;
use metrics::Shard;
pub(crate) use metrics::{Connection, HandshakeOutcome};
use second::Second;
use trace::span::Span;
use trace::{Exporter, Spans};
use writer::{Batch, Writer};

/// The process-wide end of telemetry: the writer of records and the sum of the workers' counters. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Telemetry(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    writer: Writer,
    /// One per worker. A worker locks only its own, and nobody else does but a scrape.
    shards: Mutex<Vec<Arc<Mutex<Shard>>>>,
    exporter: OnceLock<Exporter>,
}

/// Counters of one thread.
#[derive(Debug)]
pub(crate) struct Counters(Arc<Mutex<Shard>>);

/// One worker's share of telemetry.
#[derive(Debug)]
pub(crate) struct WorkerTelemetry {
    batch: RefCell<Batch>,
    /// Where traces are exported.
    spans: Option<RefCell<Spans>>,
    counters: Counters,
    second: Second,
}

impl Telemetry {
    /// Starts the writer of decision records: appends to `access_log`, or writes to stdout.
    pub fn start(access_log: Option<&Path>) -> io::Result<Self> {
        let writer = Writer::start(access_log)?;
        Ok(Self(Arc::new(Inner { writer, shards: Mutex::new(Vec::new()), exporter: OnceLock::new() })))
    }

    /// Starts the exporter of traces. Before the workers.
    pub(crate) fn export(
        &self,
        settings: &TraceSettings,
        limits: &Arc<Limits>,
        live: &Arc<Live>,
    ) -> io::Result<()> {
        let counters = self.counters(limits);
        let exporter = Exporter::start(settings.clone(), limits.clone(), live.clone(), counters)?;
        let _only_once = self.0.exporter.set(exporter);
        Ok(())
    }

    /// All counters in Prometheus's text format.
    pub fn render_prometheus(&self) -> String {
        let mut sum = Shard::default();
        for shard in self.0.shards.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            sum.add(&shard.lock().unwrap_or_else(PoisonError::into_inner));
        }
        metrics::render(&sum)
    }

    /// Writes what is left and stops the writer, then the exporter. Call it after the workers have ended; returns when all
    /// is written or they are stuck.
    pub fn finish(self) {
        self.0.writer.finish();
        if let Some(exporter) = self.0.exporter.get() {
            exporter.finish();
        }
    }

    pub(crate) fn worker(&self, limits: &Limits) -> WorkerTelemetry {
        let counters = self.counters(limits);
        let batch = RefCell::new(self.0.writer.batch(limits.record_bytes_max));
        let spans = self.0.exporter.get().and_then(Exporter::spans).map(RefCell::new);
        WorkerTelemetry { batch, spans, counters, second: Second::new() }
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

    /// Adds the spans of one request.
    fn trace(&self, spans: impl FnOnce() -> Vec<Span>) {
        let Some(queue) = &self.spans else { return };
        let lost = queue.borrow_mut().push(spans());
        if lost > 0 {
            self.count(|shard| shard.spans_dropped("queue_full", lost));
        }
    }

    /// Hands over what is there. Called every tenth of a second, and once at the end.
    pub(crate) fn flush(&self) {
        self.batch.borrow_mut().flush();
        if let Some(spans) = &self.spans {
            spans.borrow_mut().flush();
        }
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
