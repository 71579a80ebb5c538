//! The demo's mesh: a control plane, five services with a sidecar each, and an edge, all of them processes of their own.

mod data_plane;
mod documents;
mod edge;
mod member;
mod operator;
mod outside;
mod process;
mod wait;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use palisade_certs::TrustBundle;
use palisade_identity::{Namespace, ServiceAccount, SpiffeId, TrustDomain};
use tempfile::TempDir;

use member::App;

pub(crate) use edge::{EDGE, Edge, HOST};
pub(crate) use member::Member;
pub(crate) use operator::{Operator, palisade};
pub(crate) use process::Process;
pub(crate) use wait::until;

use crate::service::Service;

pub(crate) const TRUST_DOMAIN: &str = "corp.example";
pub(crate) const NAMESPACE: &str = "fintech";
/// A sidecar each, and the edge.
pub(crate) const PROXIES: usize = Service::ALL.len() + 1;

/// Everything that runs. Dropping it kills every process.
#[derive(Debug)]
pub(crate) struct Mesh {
    pub(crate) exe: PathBuf,
    folder: TempDir,
    control_plane: Option<Process>,
    /// The port is kept over a restart of the control plane.
    pub(crate) server: SocketAddr,
    auth: Member,
    accounts: Member,
    payments: Member,
    ledger: Member,
    notifications: Member,
    pub(crate) edge: Edge,
}

impl Mesh {
    /// Starts everything and returns when the first request can pass.
    pub(crate) async fn start() -> Result<Self> {
        let exe = std::env::current_exe().context("cannot find the palisade binary")?;
        let folder = TempDir::with_prefix("palisade-demo-").context("cannot make a temporary directory")?;
        let any: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 0));
        let app = |service| App::start(&exe, folder.path(), service);
        let (control_plane, auth, accounts, payments, ledger, notifications) = tokio::try_join!(
            start_control_plane(&exe, folder.path(), any),
            app(Service::Auth),
            app(Service::Accounts),
            app(Service::Payments),
            app(Service::Ledger),
            app(Service::Notifications),
        )?;
        let (control_plane, server) = control_plane;
        let operator = operator(&exe, folder.path(), server);
        let policies = documents::write(folder.path(), auth.address)?.display().to_string();
        operator.run(&["apply", &policies, "--wait", "0s"]).await?;
        let member = |app| Member::start(&operator, folder.path(), app);
        let (auth, accounts, payments, ledger, notifications, edge) = tokio::try_join!(
            member(auth),
            member(accounts),
            member(payments),
            member(ledger),
            member(notifications),
            Edge::start(&operator, folder.path()),
        )?;
        let control_plane = Some(control_plane);
        let mesh = Self {
            exe,
            folder,
            control_plane,
            server,
            auth,
            accounts,
            payments,
            ledger,
            notifications,
            edge,
        };
        mesh.connected().await?;
        Ok(mesh)
    }

    /// Waits until callers know where the services are: endpoints are pushed once a sidecar says it is ready.
    async fn connected(&self) -> Result<()> {
        let entries = "http://ledger.fintech:8080/entries";
        until("payments to reach the ledger", async || {
            let answer = self.payments.call(http::Method::GET, entries, "").await?;
            Ok((answer.status == http::StatusCode::OK).then_some(()))
        })
        .await?;
        // Refused is as good as allowed: somebody was there to refuse.
        for member in [&self.accounts, &self.notifications] {
            until("the services to reach each other", async || {
                let answer = member.call(http::Method::GET, entries, "").await?;
                Ok((answer.status == http::StatusCode::FORBIDDEN).then_some(()))
            })
            .await?;
        }
        self.edge.connected().await
    }

    pub(crate) fn member(&self, service: Service) -> &Member {
        match service {
            Service::Auth => &self.auth,
            Service::Accounts => &self.accounts,
            Service::Payments => &self.payments,
            Service::Ledger => &self.ledger,
            Service::Notifications => &self.notifications,
        }
    }

    pub(crate) fn operator(&self) -> Operator {
        operator(&self.exe, self.folder.path(), self.server)
    }

    /// A file or directory of this run.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The roots that the mesh trusts, as an operator has them.
    pub(crate) fn roots(&self) -> Result<TrustBundle> {
        let path = self.operator().directory.join("roots.pem");
        let pem = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(TrustBundle::from_pem(TrustDomain::parse(TRUST_DOMAIN)?, &pem)?)
    }

    /// The control plane's process id, while it runs.
    pub(crate) fn control_plane_pid(&self) -> Option<u32> {
        self.control_plane.as_ref().map(Process::pid)
    }

    /// SIGKILL: no goodbye to anybody.
    pub(crate) async fn kill_control_plane(&mut self) -> Result<()> {
        match self.control_plane.take() {
            Some(process) => process.kill().await,
            None => Ok(()),
        }
    }

    /// On the same port, with the same data.
    pub(crate) async fn restart_control_plane(&mut self) -> Result<()> {
        let (process, _server) = start_control_plane(&self.exe, self.folder.path(), self.server).await?;
        self.control_plane = Some(process);
        Ok(())
    }

    /// Stops everything, callers first. The temporary directory goes with it.
    pub(crate) async fn stop(self) {
        tokio::join!(
            self.edge.stop(),
            self.auth.stop(),
            self.accounts.stop(),
            self.payments.stop(),
            self.ledger.stop(),
            self.notifications.stop(),
        );
        if let Some(control_plane) = self.control_plane {
            control_plane.stop().await;
        }
    }
}

/// The SPIFFE id of one of the services.
pub(crate) fn identity(service: Service) -> Result<SpiffeId> {
    identity_of(service.name())
}

/// The SPIFFE id of a service account, such as the edge's.
pub(crate) fn identity_of(account: &str) -> Result<SpiffeId> {
    let (domain, namespace) = (TrustDomain::parse(TRUST_DOMAIN)?, Namespace::parse(NAMESPACE)?);
    Ok(SpiffeId::of_workload(&domain, &namespace, &ServiceAccount::parse(account)?))
}

fn operator(exe: &Path, folder: &Path, server: SocketAddr) -> Operator {
    let directory = folder.join("control-plane").join("operator");
    Operator { exe: exe.to_owned(), server: server.to_string(), directory }
}

async fn start_control_plane(exe: &Path, folder: &Path, listen: SocketAddr) -> Result<(Process, SocketAddr)> {
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
