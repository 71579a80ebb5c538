//! The edge, and the outside that it serves.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use http::Method;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tokio::net::TcpSocket;
use tokio::process::Child;
use tokio_rustls::TlsConnector;

use super::containers::{CREDENTIALS, OUTSIDE_NETWORK};
use super::data_plane::DataPlane;
use super::outside::{self, CREDENTIAL, OUTSIDE_CA};
use super::{Operator, Process, until};
use crate::client::{self, Connection};
use crate::docker::Container;
use crate::door::Door;
use crate::ready_file::Addresses;
use crate::record::Records;

/// Also its service account.
pub(crate) const EDGE: &str = "edge";
/// The one host that it serves.
pub(crate) const HOST: &str = "api.shop.example";
/// The services that its routes lead to.
const BEHIND: [&str; 3] = ["auth.fintech", "accounts.fintech", "payments.fintech"];

#[derive(Debug)]
pub(crate) struct Edge {
    running: Running,
    pub(crate) addresses: Addresses,
    pub(crate) records: Records,
    /// The CA that clients have to trust, PEM.
    pub(crate) ca: PathBuf,
    client: Arc<ClientConfig>,
}

#[derive(Debug)]
enum Running {
    Process(Process),
    /// Clients come to it by way of the host, which has this address in its network.
    Container {
        edge: Container,
        host: IpAddr,
        _log: Child,
    },
}

impl Edge {
    pub(super) async fn start(operator: &Operator, exe: &Path, folder: &Path) -> Result<Self> {
        let (ca, credentials) = (folder.join("outside-ca.pem"), folder.join("credentials"));
        outside::prepare(&ca, &credentials.join(CREDENTIAL), HOST)?;
        let client = outside::client(&ca)?;
        let credentials = credentials.display().to_string();
        let listeners = [
            ["--listen", "443,bind=127.0.0.1:0"],
            ["--listen", "80,bind=127.0.0.1:0"],
            ["--credentials", &credentials],
        ]
        .concat();
        let edge =
            DataPlane { command: EDGE, account: EDGE, instance: EDGE, name: EDGE, listeners: &listeners };
        let (process, addresses, records) = edge.start(operator, exe, folder).await?;
        Ok(Self { running: Running::Process(process), addresses, records, ca, client: Arc::new(client) })
    }

    /// One that runs in a container. `owner` is the container whose network namespace it shares.
    pub(super) async fn attach(edge: Container, owner: &Container, folder: &Path) -> Result<Self> {
        let ca = folder.join("outside-ca.pem");
        edge.copy_out(&format!("{CREDENTIALS}/{OUTSIDE_CA}"), &ca).await?;
        let (https, http) = (owner.published(8443).await?, owner.published(8081).await?);
        let addresses = json!({ "admin": "127.0.0.1:15000", "edge": { "443": https, "80": http } });
        let records = folder.join("edge.records.jsonl");
        let (log, host) = (edge.follow(&records)?, owner.gateway(OUTSIDE_NETWORK).await?);
        Ok(Self {
            running: Running::Container { edge, host, _log: log },
            addresses: Addresses::new(addresses),
            records: Records::new(records),
            client: Arc::new(outside::client(&ca)?),
            ca,
        })
    }

    /// What the edge takes for the address of a client on this host that calls from `address`.
    pub(crate) fn sees(&self, address: IpAddr) -> IpAddr {
        match &self.running {
            Running::Process(_) => address,
            Running::Container { host, .. } => *host,
        }
    }

    /// Waits until it knows where the services behind it are.
    pub(super) async fn connected(&self) -> Result<()> {
        let admin = match &self.running {
            Running::Process(_) => self.addresses.admin()?.into(),
            Running::Container { edge, .. } => Door::inside(edge, self.addresses.admin()?),
        };
        until("the edge to know the services behind it", async || {
            let answer = client::direct(&admin, Method::GET, "/config", "").await?;
            let config: Value = serde_json::from_str(&answer.body).context("/config did not say JSON")?;
            let destinations = config.pointer("/configuration/destinations").and_then(Value::as_array);
            let reached = |host: &str| {
                let mut all = destinations.into_iter().flatten();
                all.any(|d| d["host"] == host && d["endpoints"].as_u64().is_some_and(|n| n > 0))
            };
            Ok(BEHIND.into_iter().all(reached).then_some(()))
        })
        .await
    }

    /// A connection from outside, in TLS.
    pub(crate) async fn connect(&self) -> Result<Connection> {
        self.connect_from(IpAddr::V4(Ipv4Addr::LOCALHOST)).await
    }

    /// From an address that the client chooses, of those that this host has.
    pub(crate) async fn connect_from(&self, address: IpAddr) -> Result<Connection> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(address, 0)).with_context(|| format!("cannot call from {address}"))?;
        let stream = socket.connect(self.addresses.edge()?).await.context("cannot connect to the edge")?;
        let name = ServerName::try_from(HOST)?;
        let stream = TlsConnector::from(self.client.clone()).connect(name, stream).await?;
        Connection::over(stream).await
    }

    /// Of its process, where it is one.
    pub(crate) fn pid(&self) -> Option<u32> {
        match &self.running {
            Running::Process(process) => Some(process.pid()),
            Running::Container { .. } => None,
        }
    }

    pub(super) async fn stop(self) {
        if let Running::Process(process) = self.running {
            process.stop().await;
        }
    }
}
