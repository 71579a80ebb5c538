//! Decision records and metrics, written off the request path.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::settings::limits::Limits;

/// The process-wide end of telemetry: the writer of records and the sum of the workers' counters. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Telemetry(Arc<Inner>);

#[derive(Debug)]
struct Inner {}

/// One worker's share of telemetry.
#[derive(Debug)]
pub(crate) struct WorkerTelemetry {
    #[expect(dead_code, reason = "keeps the writer alive")]
    telemetry: Telemetry,
}

impl Telemetry {
    /// Starts the writer of decision records: appends to `access_log`, or writes to stdout.
    pub fn start(access_log: Option<&Path>) -> io::Result<Self> {
        let _ = access_log;
        Ok(Self(Arc::new(Inner {})))
    }

    /// All counters in Prometheus's text format.
    pub fn render_prometheus(&self) -> String {
        let _ = &self.0;
        String::new()
    }

    /// Writes what is left and stops the writer. Call it after the workers have ended.
    pub fn finish(self) {}

    pub(crate) fn worker(&self, limits: &Limits) -> WorkerTelemetry {
        let _ = limits;
        WorkerTelemetry { telemetry: self.clone() }
    }
}
