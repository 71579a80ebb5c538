//! The operator's commands, run as an operator would.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::process::command;
use crate::docker::Container;

/// Where the control plane is, and who we are to it.
#[derive(Clone, Debug)]
pub(crate) struct Operator {
    pub(crate) on: Host,
    pub(crate) server: String,
    pub(crate) directory: PathBuf,
}

/// Where the operator's commands run.
#[derive(Clone, Debug)]
pub(crate) enum Host {
    Here { exe: PathBuf },
    Inside(Container),
}

/// What a command said.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Operator {
    /// Runs a command against the control plane; fails when the command does.
    pub(crate) async fn run(&self, args: &[&str]) -> Result<String> {
        self.run_with(args, "").await
    }

    /// Applies the documents of one file, and gives what `apply` said in JSON.
    pub(crate) async fn apply(&self, file: &Path) -> Result<Value> {
        let text =
            std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        // From stdin: where the command runs there may be no such file.
        let args = ["apply", "-", "--wait", "5s", "--output", "json"];
        let said = self.run_with(&args, &text).await?;
        serde_json::from_str(&said).context("palisade apply did not say JSON")
    }

    /// The roots that the mesh trusts, PEM. The control plane is not asked.
    pub(crate) async fn roots(&self) -> Result<String> {
        self.to_the_end(&["ca", "show", "--output", "pem"], "").await
    }

    async fn run_with(&self, args: &[&str], stdin: &str) -> Result<String> {
        self.to_the_end(&[args, &["--server", &self.server]].concat(), stdin).await
    }

    async fn to_the_end(&self, args: &[&str], stdin: &str) -> Result<String> {
        let directory = self.directory.to_string_lossy();
        let all = [args, &["--operator-dir", &directory]].concat();
        let command = match &self.on {
            Host::Here { exe } => here(exe, &all),
            Host::Inside(container) => container.palisade(&all),
        };
        let said = to_the_end(command, stdin).await?;
        if said.code != Some(0) {
            bail!("palisade {} failed: {}{}", args.join(" "), said.stdout, said.stderr.trim());
        }
        Ok(said.stdout)
    }

    /// The same, of a command that answers in JSON.
    pub(crate) async fn json(&self, args: &[&str]) -> Result<Value> {
        let text = self.run(&[args, &["--output", "json"]].concat()).await?;
        serde_json::from_str(&text).with_context(|| format!("palisade {} did not say JSON", args.join(" ")))
    }
}

/// Runs `palisade` with any arguments to its end.
pub(crate) async fn palisade(exe: &Path, args: &[&str]) -> Result<Said> {
    to_the_end(here(exe, args), "").await
}

fn here(exe: &Path, args: &[&str]) -> Command {
    let mut command = command(exe);
    command.args(args).kill_on_drop(true).process_group(0);
    command
}

async fn to_the_end(mut command: Command, stdin: &str) -> Result<Said> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().context("cannot start palisade")?;
    if let Some(mut pipe) = child.stdin.take() {
        // A command that reads nothing may have ended already, and says itself why.
        let _unread = pipe.write_all(stdin.as_bytes()).await;
    }
    let done = child.wait_with_output().await?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Said { code: done.status.code(), stdout: text(&done.stdout), stderr: text(&done.stderr) })
}
