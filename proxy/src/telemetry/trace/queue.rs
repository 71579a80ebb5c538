//! From the workers to the exporter, in batches. A request never waits for it.

use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;

use super::span::Span;

/// One worker's spans that the exporter has not got yet.
#[derive(Debug)]
pub(crate) struct Spans {
    waiting: Vec<Span>,
    /// Spans that are handed over together.
    together: usize,
    queue: Sender<Vec<Span>>,
}

impl Spans {
    pub(super) fn new(queue: Sender<Vec<Span>>, together: usize) -> Self {
        Self { waiting: Vec::new(), together, queue }
    }

    /// Returns how many were lost, because the exporter has been stuck for so long that this worker's share is full.
    pub(in crate::telemetry) fn push(&mut self, spans: Vec<Span>) -> u64 {
        if self.waiting.len() >= self.together {
            self.flush();
            if self.waiting.len() >= self.together {
                return u64::try_from(spans.len()).unwrap_or(u64::MAX);
            }
        }
        self.waiting.extend(spans);
        0
    }

    pub(in crate::telemetry) fn flush(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        match self.queue.try_send(std::mem::take(&mut self.waiting)) {
            Ok(()) => {}
            Err(TrySendError::Full(spans) | TrySendError::Closed(spans)) => self.waiting = spans,
        }
    }
}

impl Drop for Spans {
    fn drop(&mut self) {
        self.flush();
    }
}
