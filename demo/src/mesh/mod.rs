//! The demo's mesh: a control plane, five services with a sidecar each, and an edge, all of them processes or containers
//! of their own.

mod containers;
mod control_plane;
mod data_plane;
mod documents;
mod edge;
mod member;
mod operator;
mod outside;
mod process;
mod wait;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use palisade_certs::TrustBundle;
use palisade_identity::{Namespace, ServiceAccount, SpiffeId, TrustDomain};
use tempfile::TempDir;

use member::App;
use operator::Host;

pub(crate) use control_plane::ControlPlane;
pub(crate) use edge::{EDGE, Edge, HOST};
pub(crate) use member::Member;
pub(crate) use operator::{Operator, palisade};
pub use outside::prepare_credentials;
pub(crate) use process::Process;
pub(crate) use wait::until;

use crate::service::Service;

pub(crate) const TRUST_DOMAIN: &str = "corp.example";
pub(crate) const NAMESPACE: &str = "fintech";

/// Everything that runs. Dropping it kills every process; containers are left as they are.
#[derive(Debug)]
pub(crate) struct Mesh {
    pub(crate) exe: PathBuf,
    folder: TempDir,
    pub(crate) control_plane: ControlPlane,
    operator: Operator,
    /// How many sidecars and edges there are.
    pub(crate) proxies: usize,
    auth: Member,
    accounts: Member,
    payments: Member,
    ledger: Member,
    notifications: Member,
    /// Of the ledger, where there are two.
    second_ledger: Option<Member>,
    pub(crate) edge: Edge,
}

/// The second instance of the ledger.
pub(crate) const SECOND_LEDGER: &str = "ledger-2";

/// How many instances the ledger has. Each has entries of its own, in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ledgers {
    One,
    Two,
}

impl Mesh {
    /// Starts everything and returns when the first request can pass.
    pub(crate) async fn start(ledgers: Ledgers) -> Result<Self> {
        let (exe, folder) = own()?;
        let (path, exe_path) = (folder.path(), exe.as_path());
        let app = |service: Service| App::start(exe_path, path, service, service.name());
        let second = async {
            match ledgers {
                Ledgers::One => Ok(None),
                Ledgers::Two => App::start(exe_path, path, Service::Ledger, SECOND_LEDGER).await.map(Some),
            }
        };
        let (control_plane, auth, accounts, payments, ledger, notifications, second) = tokio::try_join!(
            ControlPlane::start(exe_path, path),
            app(Service::Auth),
            app(Service::Accounts),
            app(Service::Payments),
            app(Service::Ledger),
            app(Service::Notifications),
            second,
        )?;
        let operator = operator(&control_plane, path)?;
        let policies = documents::write(path, auth.address)?.display().to_string();
        operator.run(&["apply", &policies, "--wait", "0s"]).await?;
        let member = |app| Member::start(&operator, exe_path, path, app);
        let second = async {
            match second {
                None => Ok(None),
                Some(app) => member(app).await.map(Some),
            }
        };
        let (auth, accounts, payments, ledger, notifications, second_ledger, edge) = tokio::try_join!(
            member(auth),
            member(accounts),
            member(payments),
            member(ledger),
            member(notifications),
            second,
            Edge::start(&operator, exe_path, path),
        )?;
        // A sidecar each, and the edge.
        let proxies = Service::ALL.len() + usize::from(second_ledger.is_some()) + 1;
        let mesh = Self {
            exe,
            folder,
            control_plane,
            operator,
            proxies,
            auth,
            accounts,
            payments,
            ledger,
            notifications,
            second_ledger,
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

    /// Every instance of every service, by its name.
    pub(crate) fn instances(&self) -> impl Iterator<Item = (&'static str, &Member)> {
        let all = Service::ALL.map(|service| (service.name(), self.member(service)));
        all.into_iter().chain(self.second_ledger.iter().map(|member| (SECOND_LEDGER, member)))
    }

    /// The same, to be changed.
    pub(crate) fn instances_mut(&mut self) -> impl Iterator<Item = (&'static str, &mut Member)> {
        let all = [
            (Service::Auth, &mut self.auth),
            (Service::Accounts, &mut self.accounts),
            (Service::Payments, &mut self.payments),
            (Service::Ledger, &mut self.ledger),
            (Service::Notifications, &mut self.notifications),
        ];
        let all = all.map(|(service, member)| (service.name(), member));
        all.into_iter().chain(self.second_ledger.iter_mut().map(|member| (SECOND_LEDGER, member)))
    }

    pub(crate) fn operator(&self) -> &Operator {
        &self.operator
    }

    /// A file or directory of this run.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The roots that the mesh trusts, as an operator has them.
    pub(crate) async fn roots(&self) -> Result<TrustBundle> {
        let pem = self.operator.roots().await?;
        Ok(TrustBundle::from_pem(TrustDomain::parse(TRUST_DOMAIN)?, pem.as_bytes())?)
    }

    /// Stops every process, callers first. The temporary directory goes with it.
    pub(crate) async fn stop(self) {
        let second = async {
            if let Some(member) = self.second_ledger {
                member.stop().await;
            }
        };
        tokio::join!(
            second,
            self.edge.stop(),
            self.auth.stop(),
            self.accounts.stop(),
            self.payments.stop(),
            self.ledger.stop(),
            self.notifications.stop(),
        );
        self.control_plane.stop().await;
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

/// The path of this binary, and a folder for what it writes.
fn own() -> Result<(PathBuf, TempDir)> {
    let exe = std::env::current_exe().context("cannot find the palisade binary")?;
    let folder = TempDir::with_prefix("palisade-demo-").context("cannot make a temporary directory")?;
    Ok((exe, folder))
}

fn operator(control_plane: &ControlPlane, folder: &Path) -> Result<Operator> {
    let ControlPlane::Process { exe, server, .. } = control_plane else {
        bail!("the control plane is no process");
    };
    let directory = folder.join("control-plane").join("operator");
    Ok(Operator { on: Host::Here { exe: exe.clone() }, server: server.to_string(), directory })
}
