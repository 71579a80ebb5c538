//! The control plane, which scenes kill and start again.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::{Process, TRUST_DOMAIN, data_plane};
use crate::docker::Container;

#[derive(Debug)]
pub(crate) enum ControlPlane {
    /// The port is kept over a restart.
    Process {
        exe: PathBuf,
        folder: PathBuf,
        server: SocketAddr,
        running: Option<Box<Process>>,
    },
    Container(Container),
}

impl ControlPlane {
    /// A process that keeps everything in `folder`.
    pub(super) async fn start(exe: &Path, folder: &Path) -> Result<Self> {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (process, server) = start(exe, folder, any).await?;
        let running = Some(Box::new(process));
        Ok(Self::Process { exe: exe.to_owned(), folder: folder.to_owned(), server, running })
    }

    /// SIGKILL: no goodbye to anybody. Gives the command line that does it.
    pub(crate) async fn kill(&mut self) -> Result<String> {
        match self {
            Self::Process { running, .. } => {
                let process = running.take().context("the control plane does not run")?;
                let line = format!("kill -9 {}", process.pid());
                process.kill().await?;
                Ok(line)
            }
            Self::Container(container) => {
                container.signal("KILL").await?;
                Ok(format!("docker compose kill {container}"))
            }
        }
    }

    /// Whether its process runs; a container is left to itself.
    pub(crate) fn runs(&self) -> bool {
        match self {
            Self::Process { running, .. } => running.is_some(),
            Self::Container(_) => true,
        }
    }

    /// Of its process, where it is one that runs.
    pub(crate) fn pid(&self) -> Option<u32> {
        match self {
            Self::Process { running, .. } => running.as_ref().map(|process| process.pid()),
            Self::Container(_) => None,
        }
    }

    /// How long the scenes leave it away, at the least: containers are away for as long as a host that is replaced.
    pub(crate) fn away(&self) -> Duration {
        match self {
            Self::Process { .. } => Duration::ZERO,
            Self::Container(_) => Duration::from_secs(10),
        }
    }

    /// With the same data.
    pub(crate) async fn restart(&mut self) -> Result<()> {
        match self {
            Self::Process { exe, folder, server, running } => {
                *running = Some(Box::new(start(exe, folder, *server).await?.0));
                Ok(())
            }
            Self::Container(container) => container.start().await,
        }
    }

    pub(super) async fn stop(self) {
        if let Self::Process { running: Some(process), .. } = self {
            process.stop().await;
        }
    }
}

async fn start(exe: &Path, folder: &Path, listen: SocketAddr) -> Result<(Process, SocketAddr)> {
    let ready = folder.join("control-plane.ready.json");
    // Of an earlier run, when this is a restart.
    let _absent = std::fs::remove_file(&ready);
    let data = folder.join("control-plane").display().to_string();
    let (listen, ready_file) = (listen.to_string(), ready.display().to_string());
    let args = [
        ["--data-dir", &data],
        ["--trust-domain", TRUST_DOMAIN],
        ["--listen", &listen],
        ["--admin", "127.0.0.1:0"],
        ["--ready-file", &ready_file],
    ];
    let args: Vec<String> =
        std::iter::once("control-plane").chain(args.into_iter().flatten()).map(str::to_owned).collect();
    let mut process = Process::start(exe, folder, "control-plane", &args)?;
    let address = data_plane::listening(&mut process, &ready).await?.listen()?;
    Ok((process, address))
}
