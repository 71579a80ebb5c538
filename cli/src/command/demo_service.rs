use std::net::SocketAddr;
use std::path::PathBuf;

use palisade_demo::service::{self, Service};

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
    ready_file: PathBuf,
    /// The ready file of its sidecar, which names the HTTP_PROXY to use.
    #[arg(long, env = "PALISADE_SIDECAR", value_name = "FILE")]
    sidecar: PathBuf,
}

impl DemoService {
    pub(crate) fn run(self) -> Outcome {
        let Self { name, listen, ready_file, sidecar } = self;
        Ok(service::serve(service::Options { service: name, listen, ready_file, sidecar })?)
    }
}
