//! A service and its sidecar.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use http::Method;
use serde_json::{Map, Value, json};
use tokio::process::Child;

use super::containers::MESH_NETWORK;
use super::data_plane::{DataPlane, listening, ready_file_of};
use super::{Operator, Process, until};
use crate::client::{self, Answer};
use crate::docker::Container;
use crate::door::Door;
use crate::ready_file::Addresses;
use crate::record::Records;
use crate::service::Service;

/// The process of a service, which may be killed and started again.
#[derive(Debug)]
pub(super) struct App {
    exe: PathBuf,
    folder: PathBuf,
    service: Service,
    /// Of this instance.
    name: String,
    /// The same after a restart.
    pub(super) address: SocketAddr,
    process: Option<Box<Process>>,
}

impl App {
    pub(super) async fn start(exe: &Path, folder: &Path, service: Service, name: &str) -> Result<Self> {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (exe, folder, name) = (exe.to_owned(), folder.to_owned(), name.to_owned());
        let mut app = Self { exe, folder, service, name, address: any, process: None };
        app.restart().await?;
        Ok(app)
    }

    async fn restart(&mut self) -> Result<()> {
        let (folder, name) = (&self.folder, &self.name);
        let ready = ready_file_of(folder, name);
        // Of an earlier run, when this is a restart.
        let _absent = std::fs::remove_file(&ready);
        let sidecar = ready_file_of(folder, &sidecar_name(name)).display().to_string();
        let (ready_file, listen) = (ready.display().to_string(), self.address.to_string());
        let args = ["demo-service", "--name", self.service.name(), "--listen", &listen];
        let files = ["--ready-file", &ready_file, "--sidecar", &sidecar];
        let args: Vec<String> = args.into_iter().chain(files).map(str::to_owned).collect();
        let mut process = Process::start(&self.exe, folder, name, &args)?;
        self.address = listening(&mut process, &ready).await?.listen()?;
        self.process = Some(Box::new(process));
        Ok(())
    }

    async fn kill(&mut self) -> Result<()> {
        match self.process.take() {
            Some(process) => process.kill().await,
            None => Ok(()),
        }
    }

    async fn stop(self) {
        if let Some(process) = self.process {
            process.stop().await;
        }
    }
}

#[derive(Debug)]
pub(crate) struct Member {
    running: Running,
    /// Where the application listens.
    app: SocketAddr,
    /// Where its sidecar listens.
    pub(crate) addresses: Addresses,
    /// The decision records of its sidecar.
    pub(crate) records: Records,
}

#[derive(Debug)]
enum Running {
    Processes { app: Box<App>, sidecar: Box<Process> },
    Containers { sidecar: Container, neighbour: Container, _log: Box<Child> },
}

impl Member {
    pub(super) async fn start(operator: &Operator, exe: &Path, folder: &Path, app: App) -> Result<Self> {
        let serve = format!("8080,listen=127.0.0.1:0,app={}", app.address);
        let listeners = [["--serve", &serve], ["--outbound-proxy", "127.0.0.1:0"]].concat();
        let (account, name) = (app.service.name(), sidecar_name(&app.name));
        let proxy =
            DataPlane { command: "proxy", account, instance: &app.name, name: &name, listeners: &listeners };
        let (sidecar, addresses, records) = proxy.start(operator, exe, folder).await?;
        let address = app.address;
        let running = Running::Processes { app: Box::new(app), sidecar: Box::new(sidecar) };
        Ok(Self { running, app: address, addresses, records })
    }

    /// One that runs in containers. `neighbour` is another in the same network, from which strangers come.
    pub(super) async fn attach(sidecar: Container, neighbour: Container, folder: &Path) -> Result<Self> {
        let address = sidecar.address(MESH_NETWORK).await?;
        let inbound = json!({ "8080": SocketAddr::new(address, 15006) });
        let addresses =
            json!({ "admin": "127.0.0.1:15000", "outbound_proxy": "127.0.0.1:15001", "inbound": inbound });
        let records = folder.join(format!("{sidecar}.records.jsonl"));
        let log = Box::new(sidecar.follow(&records)?);
        Ok(Self {
            running: Running::Containers { sidecar, neighbour, _log: log },
            app: SocketAddr::from(([127, 0, 0, 1], 8080)),
            addresses: Addresses::new(addresses),
            records: Records::new(records),
        })
    }

    /// Where the application listens.
    pub(crate) fn app_address(&self) -> SocketAddr {
        self.app
    }

    /// Where it is reached with its own identity: from its own host or network namespace only.
    pub(crate) fn outbound_proxy(&self) -> Result<Door> {
        Ok(self.own(self.addresses.outbound_proxy()?))
    }

    /// Its sidecar's door for the mesh, as a stranger in the same network finds it.
    pub(crate) fn inbound(&self) -> Result<Door> {
        let address = self.addresses.inbound()?;
        Ok(match &self.running {
            Running::Processes { .. } => address.into(),
            Running::Containers { neighbour, .. } => Door::inside(neighbour, address),
        })
    }

    /// Its container of the network, and one next to it; none where it is a process.
    pub(crate) fn containers(&self) -> Option<(&Container, &Container)> {
        match &self.running {
            Running::Processes { .. } => None,
            Running::Containers { sidecar, neighbour, .. } => Some((sidecar, neighbour)),
        }
    }

    /// An address on its loopback.
    fn own(&self, address: SocketAddr) -> Door {
        match &self.running {
            Running::Processes { .. } => address.into(),
            Running::Containers { sidecar, .. } => Door::inside(sidecar, address),
        }
    }

    /// A request as the application would send it: through the HTTP_PROXY of its sidecar.
    pub(crate) async fn call(&self, method: Method, url: &str, body: &str) -> Result<Answer> {
        client::through(&self.outbound_proxy()?, method, url, body, None).await
    }

    /// A request to the application itself, as its users send it.
    pub(crate) async fn ask_app(&self, method: Method, path: &str, body: &str) -> Result<Answer> {
        client::direct(&self.own(self.app), method, path, body).await
    }

    /// With which headers the application's last request came.
    pub(crate) async fn last_headers(&self) -> Result<Map<String, Value>> {
        let last = self.last_request().await?;
        last.get("headers").and_then(Value::as_object).cloned().context("there was no request yet")
    }

    /// How many requests the application has received.
    pub(crate) async fn received(&self) -> Result<u64> {
        self.last_request()
            .await?
            .get("number")
            .and_then(Value::as_u64)
            .context("the application does not count")
    }

    async fn last_request(&self) -> Result<Value> {
        let answer = self.ask_app(Method::GET, "/demo/last-request", "").await?;
        serde_json::from_str(&answer.body).context("the last request is not JSON")
    }

    /// What the sidecar's admin listener says.
    async fn admin(&self, path: &str) -> Result<Answer> {
        client::direct(&self.own(self.addresses.admin()?), Method::GET, path, "").await
    }

    /// Makes the sidecar renew its certificate now, and returns when the new one is in use.
    pub(crate) async fn renew(&self) -> Result<()> {
        let before = self.serial().await?;
        match &self.running {
            Running::Processes { sidecar, .. } => sidecar.hang_up()?,
            Running::Containers { sidecar, .. } => sidecar.signal("HUP").await?,
        }
        until("a new certificate", async || Ok((self.serial().await? != before).then_some(()))).await
    }

    /// Kills the application, its sidecar stays; or starts it again. True: that was to be done.
    pub(crate) async fn set_running(&mut self, running: bool) -> Result<bool> {
        let Running::Processes { app, .. } = &mut self.running else { return Ok(false) };
        match (app.process.is_some(), running) {
            (true, false) => app.kill().await?,
            (false, true) => app.restart().await?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Ids of the application's process and the sidecar's, where they are processes that run.
    pub(crate) fn pids(&self) -> (Option<u32>, Option<u32>) {
        match &self.running {
            Running::Processes { app, sidecar } => {
                (app.process.as_ref().map(|process| process.pid()), Some(sidecar.pid()))
            }
            Running::Containers { .. } => (None, None),
        }
    }

    /// The serial number of the certificate in use.
    pub(crate) async fn serial(&self) -> Result<String> {
        let answer = self.admin("/certs").await?;
        let value: Value = serde_json::from_str(&answer.body).context("/certs did not say JSON")?;
        let serial = value.pointer("/identity/serial").and_then(Value::as_str);
        Ok(serial.with_context(|| format!("/certs has no serial: {}", answer.line()))?.to_owned())
    }

    pub(super) async fn stop(self) {
        if let Running::Processes { app, sidecar } = self.running {
            sidecar.stop().await;
            app.stop().await;
        }
    }
}

/// Of an instance.
fn sidecar_name(instance: &str) -> String {
    format!("{instance}-sidecar")
}
