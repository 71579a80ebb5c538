//! The exporter: a thread of its own, so that neither requests nor the control plane wait for a collector.

use std::sync::mpsc::{Receiver as Done, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::{io, rc::Rc};

use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::Spans;
use super::deliver::{Delivery, Waiting};
use super::span::Span;
use super::transport::Transport;
use crate::live::Live;
use crate::settings::limits::Limits;
use crate::settings::trace::TraceSettings;
use crate::telemetry::Counters;

#[derive(Debug)]
pub(in crate::telemetry) struct Exporter {
    /// Until the end, which is when nobody has a sender any more.
    queue: Mutex<Option<Sender<Vec<Span>>>>,
    thread: Mutex<Option<(JoinHandle<()>, Done<()>)>>,
    limits: Arc<Limits>,
}

/// What the thread is given.
pub(super) struct Task {
    pub(super) settings: TraceSettings,
    pub(super) limits: Arc<Limits>,
    /// Says which workload this is, once that is known.
    pub(super) live: Arc<Live>,
    pub(super) counters: Counters,
}

impl Exporter {
    pub(in crate::telemetry) fn start(
        settings: TraceSettings,
        limits: Arc<Limits>,
        live: Arc<Live>,
        counters: Counters,
    ) -> io::Result<Self> {
        let (queue, inbox) = channel(limits.span_batches_max);
        let (done, is_done) = sync_channel(1);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let task = Task { settings, limits: limits.clone(), live, counters };
        let thread = std::thread::Builder::new().name("traces".into()).spawn(move || {
            runtime.block_on(run(task, inbox));
            let _nobody_waits = done.try_send(());
        })?;
        let thread = Mutex::new(Some((thread, is_done)));
        Ok(Self { queue: Mutex::new(Some(queue)), thread, limits })
    }

    /// A worker's share; `None` after the end.
    pub(in crate::telemetry) fn spans(&self) -> Option<Spans> {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        Some(Spans::new(queue, self.limits.spans_handed_max))
    }

    /// Sends what is left, within the time for it. After the workers have ended.
    pub(in crate::telemetry) fn finish(&self) {
        drop(self.queue.lock().unwrap_or_else(PoisonError::into_inner).take());
        let Some((thread, is_done)) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take()
        else {
            return;
        };
        // The thread keeps the time itself; a little more is for its end.
        match is_done.recv_timeout(self.limits.span_flush_timeout.saturating_mul(2)) {
            Err(RecvTimeoutError::Timeout) => tracing::error!("the exporter of traces does not end"),
            Ok(()) | Err(RecvTimeoutError::Disconnected) => drop(thread.join()),
        }
    }
}

async fn run(task: Task, inbox: Receiver<Vec<Span>>) {
    let (limits, settings) = (task.limits.clone(), &task.settings);
    tracing::info!(endpoint = %settings.collector.endpoint, "traces are exported");
    let waiting = Rc::new(Waiting::new(limits.spans_waiting_max));
    let transport = Transport::new(settings.collector.clone(), limits.clone());
    let mut delivery = Delivery::new(&task, waiting.clone(), transport);
    let ending = take_in(&task, &waiting, inbox);
    let delivering = delivery.run();
    let mut delivering = std::pin::pin!(delivering);
    tokio::select! {
        () = &mut delivering => return,
        () = ending => {}
    }
    let sent = tokio::time::timeout(limits.span_flush_timeout, delivering).await;
    let left = waiting.len();
    if sent.is_err() || left > 0 {
        tracing::warn!(
            spans = left,
            "the collector did not take all traces before the end; the rest is lost"
        );
    }
}

/// Takes what the workers bring, as far as there is room, until nobody brings anything any more.
async fn take_in(task: &Task, waiting: &Waiting, mut inbox: Receiver<Vec<Span>>) {
    while let Some(spans) = inbox.recv().await {
        let lost = waiting.add(spans);
        if lost > 0 {
            task.counters.count(|shard| shard.spans_dropped("queue_full", lost));
        }
    }
    waiting.close();
}
