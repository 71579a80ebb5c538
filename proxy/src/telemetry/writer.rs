//! The writer of decision records: a thread of its own, fed in batches.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// A batch is handed over when it has this many bytes (a few dozen records): large enough for one write(2) per
/// batch to be cheap, small enough for a log that is watched.
const BATCH_BYTES: usize = 32 * 1024;
/// What a batch has room for: the record that makes it large enough is in it too.
const CAPACITY: usize = BATCH_BYTES + 8 * 1024;
/// Batches that wait for the writer. Past it they grow in their worker, up to its limit.
const QUEUE: usize = 16;
/// How long `finish` waits for a stuck writer.
const FINISH_TIMEOUT: Duration = Duration::from_secs(5);

enum Message {
    Lines(Vec<u8>),
    Finish,
}

#[derive(Debug)]
pub(super) struct Writer {
    queue: SyncSender<Message>,
    thread: Mutex<Option<(JoinHandle<()>, Receiver<()>)>>,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Message")
    }
}

impl Writer {
    pub(super) fn start(access_log: Option<&Path>) -> io::Result<Self> {
        let sink: Box<dyn Write + Send> = match access_log {
            Some(path) => Box::new(OpenOptions::new().create(true).append(true).open(path)?),
            None => Box::new(io::stdout()),
        };
        let (queue, inbox) = sync_channel(QUEUE);
        let (done, is_done) = sync_channel(1);
        let thread = std::thread::Builder::new().name("records".into()).spawn(move || {
            write_all(sink, &inbox);
            let _nobody_waits = done.try_send(());
        })?;
        Ok(Self { queue, thread: Mutex::new(Some((thread, is_done))) })
    }

    pub(super) fn batch(&self, bytes_max: usize) -> Batch {
        Batch { lines: Vec::with_capacity(CAPACITY), queue: self.queue.clone(), bytes_max }
    }

    pub(super) fn finish(&self) {
        let Some((thread, is_done)) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take()
        else {
            return;
        };
        if self.queue.try_send(Message::Finish).is_err() {
            tracing::error!("the access log does not take what is written; the last records are lost");
            return;
        }
        match is_done.recv_timeout(FINISH_TIMEOUT) {
            Err(RecvTimeoutError::Timeout) => {
                tracing::error!("the access log does not take what is written; the last records are lost");
            }
            Ok(()) | Err(RecvTimeoutError::Disconnected) => {
                let _ended = thread.join();
            }
        }
    }
}

fn write_all(mut sink: Box<dyn Write + Send>, inbox: &Receiver<Message>) {
    let mut healthy = true;
    while let Ok(Message::Lines(lines)) = inbox.recv() {
        let written = sink.write_all(&lines).and_then(|()| sink.flush());
        match written {
            Ok(()) => healthy = true,
            Err(error) if healthy => {
                healthy = false;
                tracing::error!(%error, bytes = lines.len(), "decision records could not be written and are lost");
            }
            Err(_) => {}
        }
    }
}

/// One worker's records that the writer has not got yet.
#[derive(Debug)]
pub(super) struct Batch {
    lines: Vec<u8>,
    queue: SyncSender<Message>,
    bytes_max: usize,
}

impl Batch {
    /// Adds a line. Returns how many records were lost: 1 when the writer has been stuck for so long that the
    /// worker's share is full. Requests never wait for a disk; the loss is counted and shown instead.
    pub(super) fn push(&mut self, line: impl FnOnce(&mut Vec<u8>)) -> u64 {
        if self.lines.len() >= self.bytes_max {
            self.flush();
            if self.lines.len() >= self.bytes_max {
                return 1;
            }
        }
        line(&mut self.lines);
        if self.lines.len() >= BATCH_BYTES {
            self.flush();
        }
        0
    }

    pub(super) fn flush(&mut self) {
        if self.lines.is_empty() {
            return;
        }
        let lines = std::mem::take(&mut self.lines);
        match self.queue.try_send(Message::Lines(lines)) {
            Ok(()) => self.lines.reserve(CAPACITY),
            Err(
                TrySendError::Full(Message::Lines(lines)) | TrySendError::Disconnected(Message::Lines(lines)),
            ) => {
                self.lines = lines;
            }
            Err(_) => {}
        }
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.flush();
    }
}
