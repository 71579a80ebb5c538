//! A sidecar or an edge: a process of the data plane, and how it is started.

use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use http::{Method, StatusCode};

use super::{NAMESPACE, Operator, Process, until};
use crate::client;
use crate::ready_file::{self, Addresses};
use crate::record::Records;

/// What differs from one to the next.
pub(super) struct DataPlane<'a> {
    /// `proxy` or `edge`.
    pub(super) command: &'static str,
    /// Its service account.
    pub(super) account: &'a str,
    /// Of its token, state and records: the account, unless there are two of it.
    pub(super) instance: &'a str,
    /// Of its log and its ready file.
    pub(super) name: &'a str,
    pub(super) listeners: &'a [&'a str],
}

impl DataPlane<'_> {
    /// With a join token of its own. Returns when it says that it is ready.
    pub(super) async fn start(
        &self,
        operator: &Operator,
        exe: &Path,
        folder: &Path,
    ) -> Result<(Process, Addresses, Records)> {
        let at = |suffix: &str| folder.join(format!("{}{suffix}", self.instance));
        let token = join_token(operator, &at(".token"), self.account).await?;
        let records = at(".records.jsonl");
        let (state, log) = (at(".state").display().to_string(), records.display().to_string());
        let ready = ready_file_of(folder, self.name);
        let ready_file = ready.display().to_string();
        let options = [
            ["--control-plane", &operator.server],
            ["--join-token-file", &token],
            ["--state-dir", &state],
            ["--admin", "127.0.0.1:0"],
            ["--access-log", &log],
            ["--ready-file", &ready_file],
            ["--workers", "1"],
            // Nobody is left to hear of a withdrawal when the whole mesh stops.
            ["--drain-delay", "0s"],
            ["--drain-deadline", "2s"],
        ];
        let options = options.as_flattened().iter().chain(self.listeners);
        let args: Vec<String> =
            std::iter::once(&self.command).chain(options).map(|&arg| arg.to_owned()).collect();
        let mut process = Process::start(exe, folder, self.name, &args)?;
        let addresses = listening(&mut process, &ready).await?;
        self.ready(&mut process, &addresses).await?;
        Ok((process, addresses, Records::new(records)))
    }

    async fn ready(&self, process: &mut Process, addresses: &Addresses) -> Result<()> {
        let admin = addresses.admin()?.into();
        until("it to be ready", async || {
            process.check()?;
            let answer = client::direct(&admin, Method::GET, "/ready", "").await?;
            Ok((answer.status == StatusCode::OK).then_some(()))
        })
        .await
        .with_context(|| self.name.to_owned())
    }
}

pub(super) fn ready_file_of(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.ready.json"))
}

/// Waits for a process's ready file.
pub(super) async fn listening(process: &mut Process, ready: &Path) -> Result<Addresses> {
    until("a process to listen", async || {
        process.check()?;
        if ready.exists() { ready_file::read(ready).map(Some) } else { Ok(None) }
    })
    .await
}

/// A token for one start, in a file that nobody else can read.
async fn join_token(operator: &Operator, path: &Path, account: &str) -> Result<String> {
    let args = ["token", "create", "--namespace", NAMESPACE, "--service-account", account];
    let token = operator.run(&args).await?;
    let mut file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(path)?;
    std::io::Write::write_all(&mut file, token.trim().as_bytes())?;
    Ok(path.display().to_string())
}
