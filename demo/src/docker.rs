//! Containers that are there already, by way of the `docker` command.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use tokio::process::{Child, Command};

mod pipe;

pub(crate) use pipe::Pipe;
pub use pipe::serve as serve_pipe;

/// Where the image has the binary. It is told by its path, for an image need not have a shell or a PATH.
pub(crate) const PALISADE: &str = "/usr/local/bin/palisade";
const PROJECT: &str = "com.docker.compose.project";
const SERVICE: &str = "com.docker.compose.service";

#[derive(Clone, Debug)]
pub(crate) struct Container {
    id: Arc<str>,
    /// Of the service in the Compose file.
    service: Arc<str>,
}

impl fmt::Display for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.service)
    }
}

/// The running containers of a Compose project, by service.
pub(crate) async fn project(name: &str) -> Result<BTreeMap<String, Container>> {
    let filter = format!("label={PROJECT}={name}");
    let format = format!("{{{{.ID}}}} {{{{.Label \"{SERVICE}\"}}}}");
    let listed = docker(&["ps", "--no-trunc", "--filter", &filter, "--format", &format]).await?;
    let containers = listed
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(id, service)| (service.to_owned(), Container { id: id.into(), service: service.into() }));
    let containers: BTreeMap<_, _> = containers.collect();
    if containers.is_empty() {
        bail!("no container of a Compose project {name:?} runs; start it with `docker compose up -d`");
    }
    Ok(containers)
}

impl Container {
    /// Its address in a network of the project.
    pub(crate) async fn address(&self, network: &str) -> Result<std::net::IpAddr> {
        let format =
            "{{range $name, $network := .NetworkSettings.Networks}}{{$name}} {{$network.IPAddress}}\n{{end}}";
        self.network(network, format).await
    }

    /// The address that connections through published ports come from: the network's own on this host.
    pub(crate) async fn gateway(&self, network: &str) -> Result<std::net::IpAddr> {
        let format =
            "{{range $name, $network := .NetworkSettings.Networks}}{{$name}} {{$network.Gateway}}\n{{end}}";
        self.network(network, format).await
    }

    async fn network(&self, network: &str, format: &str) -> Result<std::net::IpAddr> {
        let said = docker(&["inspect", "--format", format, &self.id]).await?;
        // Compose puts the project's name in front.
        let ending = format!("_{network}");
        let found =
            said.lines().filter_map(|line| line.split_once(' ')).find(|(name, _)| name.ends_with(&ending));
        let (_, address) = found.with_context(|| format!("{self} is not in the network {network}"))?;
        address.parse().with_context(|| format!("{self} has no address in the network {network}"))
    }

    /// Where a port of it is published on this host.
    pub(crate) async fn published(&self, port: u16) -> Result<SocketAddr> {
        let said = docker(&["port", &self.id, &port.to_string()]).await?;
        let first = said.lines().next().unwrap_or_default();
        first.parse().with_context(|| format!("port {port} of {self} is not published on this host"))
    }

    /// Copies one file of it to this host.
    pub(crate) async fn copy_out(&self, path: &str, to: &Path) -> Result<()> {
        docker(&["cp", &format!("{}:{path}", self.id), &to.display().to_string()]).await.map(drop)
    }

    /// Sends a signal to its process.
    pub(crate) async fn signal(&self, signal: &str) -> Result<()> {
        docker(&["kill", "--signal", signal, &self.id]).await.map(drop)
    }

    pub(crate) async fn start(&self) -> Result<()> {
        docker(&["start", &self.id]).await.map(drop)
    }

    /// Appends what it writes to stdout from now on to a file, until the child is dropped.
    pub(crate) fn follow(&self, file: &Path) -> Result<Child> {
        let file = std::fs::File::options().create(true).append(true).open(file)?;
        let mut command = command(&["logs", "--follow", "--tail", "0", &self.id]);
        command
            .stdout(file)
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start the docker command; is it installed?")
    }

    /// `palisade` with these arguments, in it.
    pub(crate) fn palisade(&self, args: &[&str]) -> Command {
        command(&[&["exec", "--interactive", &self.id, PALISADE], args].concat())
    }
}

/// Runs docker to its end, and gives what it said.
async fn docker(args: &[&str]) -> Result<String> {
    let done = command(args)
        .stdin(Stdio::null())
        .output()
        .await
        .context("cannot start the docker command; is it installed?")?;
    if !done.status.success() {
        bail!("docker {} failed: {}", args.join(" "), String::from_utf8_lossy(&done.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new("docker");
    // Ctrl-C in a terminal goes to a whole group; the scenes end these themselves.
    command.args(args).kill_on_drop(true).process_group(0);
    command
}
