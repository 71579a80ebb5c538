//! A process that belongs to another one and must not outlive it.

use std::io::Read as _;

use anyhow::Context as _;
use rustix::process::{Signal, getpid, kill_process};

use crate::exit::Outcome;

/// Sends SIGTERM to this process once stdin has ended. The parent holds the other end of that pipe and writes nothing:
/// however it dies, the kernel closes it.
pub(crate) fn stop_with_stdin() -> Outcome {
    std::thread::Builder::new()
        .name("stdin".to_owned())
        .spawn(|| {
            let mut buffer = [0; 64];
            while std::io::stdin().read(&mut buffer).is_ok_and(|read| read > 0) {}
            if let Err(error) = kill_process(getpid(), Signal::TERM) {
                tracing::error!(%error, "stdin has ended and this process cannot stop itself");
            }
        })
        .context("cannot start a thread")?;
    Ok(())
}
