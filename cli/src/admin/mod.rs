//! The connection of an operator's command to the control plane.

mod connect;
mod status;

use std::path::PathBuf;
use std::time::Duration;

use palisade_proto::v1::admin_client::AdminClient;
use tonic::transport::Channel;

use crate::exit::{Failure, Outcome};

pub(crate) use status::refused;

pub(crate) type Client = AdminClient<Channel>;

/// One call, apart from the time that `--wait` adds. The control plane ends its part after 15 s.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);
/// A list of some ten thousand objects.
const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Control plane")]
pub(crate) struct Options {
    /// The control plane.
    #[arg(long, env = "PALISADE_SERVER", value_name = "HOST:PORT")]
    server: String,
    /// Directory with operator.crt, operator.key and roots.pem; the control plane's first start makes one in its
    /// data directory.
    #[arg(long, env = "PALISADE_OPERATOR_DIR", value_name = "DIR")]
    operator_dir: PathBuf,
}

/// The same for commands that do without a control plane, too.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Control plane")]
pub(crate) struct Optional {
    /// The control plane.
    #[arg(long, env = "PALISADE_SERVER", value_name = "HOST:PORT")]
    server: Option<String>,
    /// Directory with operator.crt, operator.key and roots.pem.
    #[arg(long, env = "PALISADE_OPERATOR_DIR", value_name = "DIR")]
    operator_dir: Option<PathBuf>,
}

impl Optional {
    /// `None`: not both are given.
    pub(crate) fn given(&self) -> Option<Options> {
        let (server, operator_dir) = (self.server.clone()?, self.operator_dir.clone()?);
        Some(Options { server, operator_dir })
    }
}

impl Options {
    /// Of a document, and not of the command line.
    pub(crate) fn of(server: &str, operator_dir: &str) -> Self {
        Self { server: server.to_owned(), operator_dir: operator_dir.into() }
    }

    /// For one call. Nothing ends it for taking too long.
    pub(crate) async fn client(&self) -> Result<Client, Failure> {
        let channel = connect::connect(&self.server, &self.operator_dir).await?;
        Ok(AdminClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX))
    }

    /// Connects, hands the client to `call`, and ends it when it takes longer than a call may (`extra` on top).
    pub(crate) fn with_client<F>(&self, extra: Duration, call: impl FnOnce(Client) -> F) -> Outcome
    where
        F: Future<Output = Outcome>,
    {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let client = self.client().await?;
            let deadline = CALL_TIMEOUT.saturating_add(extra);
            match tokio::time::timeout(deadline, call(client)).await {
                Ok(outcome) => outcome,
                Err(_elapsed) => Err(Failure::from(anyhow::anyhow!(
                    "the control plane at {} has not answered within {deadline:?}; look at its log",
                    self.server
                ))),
            }
        })
    }
}
