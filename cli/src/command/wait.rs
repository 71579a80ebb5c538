use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use http_body_util::{BodyExt as _, Limited};
use hyper::header::HOST;
use hyper_util::rt::TokioIo;
use palisade_proxy::settings::{defaults, parse_duration};
use tokio::net::TcpStream;

use crate::exit::Outcome;
use crate::output::print;

/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(100);
/// One look.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// The answer says in a line or two what is missing.
const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// Wait until a proxy or control plane on this host is ready.
///
/// For start scripts and health checks: exit code 0 when it is, 1 when it is not in time.
#[derive(Debug, clap::Args)]
pub(crate) struct Wait {
    /// Its admin listener.
    #[arg(long, env = "PALISADE_ADMIN", value_name = "IP:PORT", default_value_t = defaults::ADMIN)]
    admin: SocketAddr,
    /// Also until the application's health check is good. Not for what the application itself waits for at its start.
    #[arg(long, env = "PALISADE_APPLICATION")]
    application: bool,
    #[arg(long, env = "PALISADE_TIMEOUT", value_name = "TIME", default_value = "60s", value_parser = parse_duration)]
    timeout: Duration,
}

impl Wait {
    pub(crate) fn run(self) -> Outcome {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut last = anyhow!("it has not answered yet");
            let page = if self.application { "/ready/application" } else { "/ready" };
            let ready = tokio::time::timeout(self.timeout, async {
                while let Err(error) = look(self.admin, page).await {
                    last = error;
                    tokio::time::sleep(INTERVAL).await;
                }
            });
            if ready.await.is_err() {
                let waited = self.timeout;
                let said = format!("{} is not ready after {waited:?}; look at its log", self.admin);
                return Err(last.context(said).into());
            }
            print("ready")?;
            Ok(())
        })
    }
}

async fn look(admin: SocketAddr, page: &str) -> Result<()> {
    tokio::time::timeout(REQUEST_TIMEOUT, ask(admin, page)).await.context("it does not answer")?
}

async fn ask(admin: SocketAddr, page: &str) -> Result<()> {
    let stream = TcpStream::connect(admin).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = hyper::Request::get(page).header(HOST, admin.to_string()).body(String::new())?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    #[expect(clippy::disallowed_methods, reason = "limited")]
    let answer = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
    connection.abort();
    if status.is_success() {
        return Ok(());
    }
    let answer = answer.map(|a| a.to_bytes()).unwrap_or_default();
    bail!("{status}: {}", String::from_utf8_lossy(&answer).trim())
}
