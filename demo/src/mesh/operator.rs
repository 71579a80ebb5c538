//! The operator's commands, run as an operator would.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::process::command;

/// Where the control plane is, and who we are to it.
#[derive(Clone, Debug)]
pub(crate) struct Operator {
    pub(crate) exe: PathBuf,
    pub(crate) server: String,
    pub(crate) directory: PathBuf,
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
        let directory = self.directory.to_string_lossy();
        let all = [args, &["--server", &self.server, "--operator-dir", &directory]].concat();
        let said = palisade(&self.exe, &all).await?;
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
    let done = command(exe)
        .args(args)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .process_group(0)
        .output()
        .await
        .context("cannot start palisade")?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Said { code: done.status.code(), stdout: text(&done.stdout), stderr: text(&done.stderr) })
}
