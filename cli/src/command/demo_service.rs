use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context as _;
use palisade_demo::service::{self, HttpProxy, Service};

use crate::exit::Outcome;

/// One of the demo's services. `palisade demo` starts them.
#[derive(Debug, clap::Args)]
pub(crate) struct DemoService {
    /// auth, accounts, payments, ledger or notifications.
    #[arg(long, env = "PALISADE_NAME")]
    name: Service,
    #[arg(long, env = "PALISADE_LISTEN", value_name = "IP:PORT")]
    listen: SocketAddr,
    /// Written when it listens.
    #[arg(long, env = "PALISADE_READY_FILE", value_name = "FILE")]
    ready_file: Option<PathBuf>,
    /// Its sidecar's outbound side.
    #[arg(long, env = "PALISADE_HTTP_PROXY", value_name = "IP:PORT", required_unless_present = "sidecar")]
    http_proxy: Option<SocketAddr>,
    /// The ready file of its sidecar, which names the HTTP_PROXY to use.
    #[arg(long, env = "PALISADE_SIDECAR", value_name = "FILE", conflicts_with = "http_proxy")]
    sidecar: Option<PathBuf>,
}

impl DemoService {
    pub(crate) fn run(self) -> Outcome {
        let Self { name, listen, ready_file, http_proxy, sidecar } = self;
        let known = http_proxy.map(HttpProxy::At).or(sidecar.map(HttpProxy::In));
        let http_proxy = known.context("neither --http-proxy nor --sidecar")?;
        Ok(service::serve(service::Options { service: name, listen, ready_file, http_proxy })?)
    }
}
