use std::net::SocketAddr;

use crate::exit::Outcome;

/// stdin and stdout as a TCP connection: how `palisade demo` reaches into a network namespace.
#[derive(Debug, clap::Args)]
pub(crate) struct DemoPipe {
    #[arg(value_name = "IP:PORT")]
    address: SocketAddr,
}

impl DemoPipe {
    pub(crate) fn run(self) -> Outcome {
        Ok(palisade_demo::serve_pipe(self.address)?)
    }
}
