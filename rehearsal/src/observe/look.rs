//! One page of an admin listener.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http::Request;
use http::header::HOST;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

const TIMEOUT: Duration = Duration::from_secs(2);
/// Some ten thousand series.
const PAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

pub(super) async fn metrics(admin: SocketAddr) -> Result<String> {
    timeout(TIMEOUT, get(admin)).await.context("it does not answer in time")?
}

async fn get(admin: SocketAddr) -> Result<String> {
    let stream = TcpStream::connect(admin).await?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
    let request = Request::get("/metrics").header(HOST, admin.to_string()).body(Empty::<Bytes>::new())?;
    // The connection is driven here, and gone with this look.
    let answer = async {
        let response = sender.send_request(request).await?;
        ensure!(response.status().is_success(), "it answers {}", response.status());
        #[expect(clippy::disallowed_methods, reason = "limited")]
        let body = Limited::new(response.into_body(), PAGE_BYTES_MAX).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!("its metrics broke off: {error}"))?;
        Ok(String::from_utf8_lossy(&body.to_bytes()).into_owned())
    };
    let (mut answer, mut connection) = (std::pin::pin!(answer), std::pin::pin!(connection));
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        // What it ended with, the sender says too.
        _ended = &mut connection => answer.await,
    }
}
