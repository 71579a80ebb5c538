//! Those who have no business at a sidecar's door.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use http::Method;
use palisade_certs::ca::RootAuthority;
use palisade_certs::csr::PendingKey;
use palisade_certs::tls::{ExpectedPeer, client_config};
use palisade_certs::{Svid, TrustBundle};
use palisade_identity::{SpiffeId, TrustDomain};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use crate::client::Connection;
use crate::door::Door;
use crate::mesh::TRUST_DOMAIN;

/// What became of an attempt.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    /// As the sidecar's record names the caller.
    pub(crate) from: SocketAddr,
    /// The status, when there was an answer, or how the connection ended.
    pub(crate) outcome: Result<u16, String>,
}

impl Attempt {
    pub(crate) fn line(&self) -> String {
        match &self.outcome {
            Ok(status) => format!("answered {status}"),
            Err(end) => format!("no answer: {end}"),
        }
    }
}

/// GET without TLS.
pub(crate) async fn plaintext(sidecar: &Door) -> Result<Attempt> {
    let (stream, from) = sidecar.connect_and_tell().await?;
    Ok(Attempt { from, outcome: get(stream).await })
}

/// GET with TLS and the certificate of `svid`, or none.
pub(crate) async fn tls(
    sidecar: &Door,
    svid: Option<&Svid>,
    bundle: &TrustBundle,
    server: SpiffeId,
) -> Result<Attempt> {
    let config = client_config(svid, bundle, ExpectedPeer::only(server), &[b"http/1.1"])?;
    let (stream, from) = sidecar.connect_and_tell().await?;
    let name = ServerName::IpAddress(sidecar.address.ip().into());
    // With TLS 1.3 the client is done before the server has judged its certificate: the refusal comes with the first
    // read.
    let outcome = match TlsConnector::from(Arc::new(config)).connect(name, stream).await {
        Ok(stream) => get(stream).await,
        Err(error) => Err(error.to_string()),
    };
    Ok(Attempt { from, outcome })
}

async fn get<S>(stream: S) -> Result<u16, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let answer = async {
        let mut connection = Connection::over(stream).await?;
        connection.send(Method::GET, "/entries", "ledger.fintech:8080", "").await
    };
    answer.await.map(|answer| answer.status.as_u16()).map_err(|error| end(&error))
}

/// The innermost cause says it best.
fn end(error: &anyhow::Error) -> String {
    error.chain().last().map(ToString::to_string).unwrap_or_default()
}

/// A certificate with a service's true name, of a CA that is not the mesh's.
pub(crate) fn forged(id: &SpiffeId) -> Result<Svid> {
    let now = SystemTime::now();
    let root = RootAuthority::generate(&TrustDomain::parse(TRUST_DOMAIN)?, now)?;
    let key = PendingKey::generate()?;
    let issued = root.intermediate(now)?.issue(id, &key.csr_der()?, Duration::from_secs(3600), now)?;
    Svid::from_der(issued.chain, key.private_key_der()).context("the forged certificate is malformed")
}
