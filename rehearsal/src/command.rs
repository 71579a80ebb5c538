//! Programs that break something and mend it again.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::timeout;

/// Of what a program says, so much is shown when it fails.
const SAID_BYTES_MAX: usize = 2048;
/// From a program's end until what it wrote is read.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Runs a program to its end. It fails when the program does, or takes longer than it may: then it is killed, with all
/// that it has started.
pub(crate) async fn run(words: &[String], limit: Duration) -> Result<()> {
    let (program, arguments) = words.split_first().context("there is nothing to run")?;
    let line = words.join(" ");
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        // Ctrl-C in a terminal goes to a whole group; what mends things has to end in its own time.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot run {line}"))?;
    let mut group = Group::of(child);
    let Ok(ended) = timeout(limit, group.ended()).await else {
        bail!("{line} has not ended within {limit:?}, and was killed");
    };
    let (status, said) = ended.with_context(|| format!("cannot run {line}"))?;
    if !status.success() {
        bail!("{line} failed ({status}): {}", said.trim());
    }
    Ok(())
}

/// A program and what it has started. Dropped before its end, all of them are killed.
struct Group {
    child: Child,
    id: Option<Pid>,
}

impl Group {
    fn of(child: Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Self { child, id }
    }

    async fn ended(&mut self) -> std::io::Result<(ExitStatus, String)> {
        let (mut said, mut part) = (Vec::new(), [0; 1024]);
        let mut pipe = self.child.stderr.take();
        let status = loop {
            tokio::select! {
                status = self.child.wait() => break status?,
                read = read(&mut pipe, &mut part) => match read {
                    // It has closed it, and may go on.
                    Ok(0) | Err(_) => pipe = None,
                    Ok(bytes) => keep(&mut said, part.get(..bytes)),
                },
            }
        };
        self.id = None;
        let last = async {
            while let Ok(bytes @ 1..) = read(&mut pipe, &mut part).await {
                keep(&mut said, part.get(..bytes));
            }
        };
        // A server that it left behind may keep it open for ever.
        let _open = timeout(LAST_WORDS, last).await;
        Ok((status, String::from_utf8_lossy(&said).into_owned()))
    }
}

/// Of a pipe that is closed already nothing ever comes.
async fn read(pipe: &mut Option<ChildStderr>, part: &mut [u8]) -> std::io::Result<usize> {
    match pipe {
        Some(pipe) => pipe.read(part).await,
        None => std::future::pending().await,
    }
}

/// What is more than enough is read and dropped: a program must not wait for us.
fn keep(said: &mut Vec<u8>, part: Option<&[u8]>) {
    let room = SAID_BYTES_MAX.saturating_sub(said.len());
    said.extend(part.unwrap_or_default().iter().take(room));
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            // It has ended by itself, then.
            let _gone = kill_process_group(id, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test code")]

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    async fn sh(script: &str, limit: Duration) -> Result<(), String> {
        let words = ["sh", "-c", script].map(ToOwned::to_owned);
        run(&words, limit).await.map_err(|error| format!("{error:#}"))
    }

    #[tokio::test]
    async fn a_program_that_fails_is_told_with_its_words() {
        assert_eq!(sh("exit 0", LONG).await, Ok(()));
        let failed = sh("echo no such service >&2; exit 3", LONG).await.unwrap_err();
        assert!(failed.contains("exit status: 3") && failed.ends_with("no such service"), "{failed}");
        let words = ["/nowhere/at-all".to_owned()];
        let error = format!("{:#}", run(&words, LONG).await.unwrap_err());
        assert!(error.contains("cannot run /nowhere/at-all"), "{error}");
    }

    #[tokio::test]
    async fn a_program_that_says_a_lot_is_no_reason_to_hang() {
        let failed = sh("head -c 300000 /dev/zero | tr '\\0' x >&2; exit 1", LONG).await.unwrap_err();
        assert!(failed.contains("exit status: 1") && failed.len() < 3000, "{}", failed.len());
    }

    #[tokio::test]
    async fn a_program_that_does_not_end_is_killed_with_all_that_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        let script = format!("sleep 600 & echo $! > {}; wait", file.display());
        let failed = sh(&script, Duration::from_millis(500)).await.unwrap_err();
        assert!(failed.contains("has not ended within 500ms"), "{failed}");
        let pid = std::fs::read_to_string(&file).unwrap();
        let status = format!("/proc/{}/stat", pid.trim());
        // A zombie has ended; whoever it belongs to now may not have looked yet.
        let runs = || std::fs::read_to_string(&status).is_ok_and(|stat| !stat.contains(") Z "));
        timeout(LONG, async {
            while runs() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .unwrap();
    }

    #[tokio::test]
    async fn a_server_that_a_program_leaves_behind_stays_and_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        let script = format!("sleep 600 & echo $! > {}", file.display());
        assert_eq!(sh(&script, LONG).await, Ok(()));
        let pid = std::fs::read_to_string(&file).unwrap();
        let pid = Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
        rustix::process::kill_process(pid, Signal::KILL).unwrap();
    }
}
