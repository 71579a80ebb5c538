//! Child processes that never outlive the demo.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, ChildStdin, Command};

/// A sidecar drains for at most two seconds, see `sidecar` in this folder.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// What of a log is shown when its process fails.
const LOG_LINES: usize = 12;

/// A running `palisade`. It ends when its stdin does (`--stop-with-stdin`), so also when the demo is killed; dropping
/// this kills it.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    log: PathBuf,
}

impl Process {
    /// stdout and stderr go to `<folder>/<name>.log`.
    pub(crate) fn start(exe: &Path, folder: &Path, name: &str, args: &[String]) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let file = std::fs::File::options()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("cannot write {}", log.display()))?;
        let mut child = command(exe)
            .arg("--stop-with-stdin")
            .args(args)
            .stdin(Stdio::piped())
            .stdout(file.try_clone()?)
            .stderr(file)
            .kill_on_drop(true)
            // Ctrl-C in a terminal goes to a whole group; the demo stops its processes itself, in order.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let stdin = child.stdin.take();
        Ok(Self { name: name.to_owned(), child, stdin, log })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id().unwrap_or(0)
    }

    /// Fails, with the end of its log, when the process has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} ended by itself ({status}); its last words:\n{}", self.name, self.last_words());
        }
        Ok(())
    }

    fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines.get(lines.len().saturating_sub(LOG_LINES)..).unwrap_or_default().join("\n")
    }

    /// SIGHUP: a sidecar renews its certificate at once.
    pub(crate) fn hang_up(&self) -> Result<()> {
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let pid = pid.with_context(|| format!("{} has ended", self.name))?;
        kill_process(pid, Signal::HUP).with_context(|| format!("cannot send SIGHUP to {}", self.name))
    }

    /// SIGKILL.
    pub(crate) async fn kill(mut self) -> Result<()> {
        self.child.kill().await.with_context(|| format!("cannot kill {}", self.name))
    }

    /// Asks it to stop, then makes it.
    pub(crate) async fn stop(mut self) {
        drop(self.stdin.take());
        if tokio::time::timeout(STOP_TIMEOUT, self.child.wait()).await.is_err() {
            tracing::warn!(process = self.name, "does not stop; killed");
            // It has ended already, then.
            let _ended = self.child.kill().await;
        }
    }
}

/// A command of this binary, without settings of the shell that would change what the demo shows.
pub(crate) fn command(exe: &Path) -> Command {
    let mut command = Command::new(exe);
    for (name, _) in std::env::vars_os() {
        let lower = name.to_string_lossy().to_ascii_lowercase();
        if lower.starts_with("palisade_") || lower.ends_with("_proxy") {
            command.env_remove(name);
        }
    }
    command
}
