//! A service and its sidecar.

use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use http::{Method, StatusCode};
use serde_json::{Map, Value};

use super::{NAMESPACE, Operator, Process, until};
use crate::client::{self, Answer};
use crate::ready_file::{self, Addresses};
use crate::record::Records;
use crate::service::Service;

#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) service: Service,
    app: Process,
    sidecar: Process,
    /// Where the application listens.
    pub(crate) app_address: SocketAddr,
    /// Where its sidecar listens.
    pub(crate) addresses: Addresses,
    /// The decision records of its sidecar.
    pub(crate) records: Records,
}

impl Member {
    pub(super) async fn start(operator: &Operator, folder: &Path, service: Service) -> Result<Self> {
        let (app, app_address) = start_app(operator, folder, service).await?;
        let token = join_token(operator, folder, service).await?;
        let records = folder.join(format!("{}.records.jsonl", service.name()));
        let ready = sidecar_ready_file(folder, service);
        let args = sidecar(operator, folder, service, app_address, &token);
        let name = format!("{}-sidecar", service.name());
        let mut process = Process::start(&operator.exe, folder, &name, &args)?;
        let addresses = until("a sidecar to listen", async || {
            process.check()?;
            if ready.exists() { ready_file::read(&ready).map(Some) } else { Ok(None) }
        })
        .await?;
        let member =
            Self { service, app, sidecar: process, app_address, addresses, records: Records::new(records) };
        member.ready().await?;
        Ok(member)
    }

    async fn ready(&self) -> Result<()> {
        let admin = self.addresses.admin()?;
        until("a sidecar to be ready", async || {
            let answer = client::direct(admin, Method::GET, "/ready", "").await?;
            Ok((answer.status == StatusCode::OK).then_some(()))
        })
        .await
        .with_context(|| format!("the sidecar of {}", self.service.name()))
    }

    /// A request as the application would send it: through the HTTP_PROXY of its sidecar.
    pub(crate) async fn call(&self, method: Method, url: &str, body: &str) -> Result<Answer> {
        client::through(self.addresses.outbound_proxy()?, method, url, body).await
    }

    /// A request to the application itself, as its users send it.
    pub(crate) async fn ask_app(&self, method: Method, path: &str, body: &str) -> Result<Answer> {
        client::direct(self.app_address, method, path, body).await
    }

    /// With which headers the application's last request came.
    pub(crate) async fn last_headers(&self) -> Result<Map<String, Value>> {
        let answer = self.ask_app(Method::GET, "/demo/last-request", "").await?;
        let last: Value = serde_json::from_str(&answer.body).context("the last request is not JSON")?;
        last.get("headers").and_then(Value::as_object).cloned().context("there was no request yet")
    }

    /// What the sidecar's admin listener says.
    async fn admin(&self, path: &str) -> Result<Answer> {
        client::direct(self.addresses.admin()?, Method::GET, path, "").await
    }

    /// Makes the sidecar renew its certificate now, and returns when the new one is in use.
    pub(crate) async fn renew(&self) -> Result<()> {
        let before = self.serial().await?;
        self.sidecar.hang_up()?;
        until("a new certificate", async || Ok((self.serial().await? != before).then_some(()))).await
    }

    /// The serial number of the certificate in use.
    pub(crate) async fn serial(&self) -> Result<String> {
        let answer = self.admin("/certs").await?;
        let value: Value = serde_json::from_str(&answer.body).context("/certs did not say JSON")?;
        let serial = value.pointer("/identity/serial").and_then(Value::as_str);
        Ok(serial.with_context(|| format!("/certs has no serial: {}", answer.line()))?.to_owned())
    }

    pub(super) async fn stop(self) {
        self.sidecar.stop().await;
        self.app.stop().await;
    }
}

fn sidecar_ready_file(folder: &Path, service: Service) -> std::path::PathBuf {
    folder.join(format!("{}-sidecar.ready.json", service.name()))
}

async fn start_app(operator: &Operator, folder: &Path, service: Service) -> Result<(Process, SocketAddr)> {
    let ready = folder.join(format!("{}.ready.json", service.name()));
    let sidecar = sidecar_ready_file(folder, service);
    let (ready_file, sidecar) = (ready.display().to_string(), sidecar.display().to_string());
    let args = ["demo-service", "--name", service.name(), "--listen", "127.0.0.1:0"];
    let files = ["--ready-file", &ready_file, "--sidecar", &sidecar];
    let args: Vec<String> = args.into_iter().chain(files).map(str::to_owned).collect();
    let mut process = Process::start(&operator.exe, folder, service.name(), &args)?;
    let address = until("a service to listen", async || {
        process.check()?;
        if ready.exists() { ready_file::read(&ready)?.listen().map(Some) } else { Ok(None) }
    })
    .await?;
    Ok((process, address))
}

/// A token for one start, in a file that nobody else can read.
async fn join_token(operator: &Operator, folder: &Path, service: Service) -> Result<String> {
    let args = ["token", "create", "--namespace", NAMESPACE, "--service-account", service.name()];
    let token = operator.run(&args).await?;
    let path = folder.join(format!("{}.token", service.name()));
    let mut file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(&path)?;
    std::io::Write::write_all(&mut file, token.trim().as_bytes())?;
    Ok(path.display().to_string())
}

fn sidecar(
    operator: &Operator,
    folder: &Path,
    service: Service,
    app: SocketAddr,
    token: &str,
) -> Vec<String> {
    let at = |suffix: &str| folder.join(format!("{}{suffix}", service.name())).display().to_string();
    let serve = format!("8080,listen=127.0.0.1:0,app={app}");
    let (state, records) = (at(".state"), at(".records.jsonl"));
    let ready = sidecar_ready_file(folder, service).display().to_string();
    let options = [
        ["--control-plane", &operator.server],
        ["--join-token-file", token],
        ["--state-dir", &state],
        ["--serve", &serve],
        ["--outbound-proxy", "127.0.0.1:0"],
        ["--admin", "127.0.0.1:0"],
        ["--access-log", &records],
        ["--ready-file", &ready],
        ["--workers", "1"],
        // Nobody is left to hear of a withdrawal when the whole mesh stops.
        ["--drain-delay", "0s"],
        ["--drain-deadline", "2s"],
    ];
    std::iter::once("proxy").chain(options.into_iter().flatten()).map(str::to_owned).collect()
}
