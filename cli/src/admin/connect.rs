//! Mutual TLS with an operator's certificate, to the one identity a control plane may have.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, anyhow};
use hyper_util::rt::TokioIo;
use palisade_certs::tls::{self, ExpectedPeer};
use palisade_certs::{Svid, TrustBundle};
use palisade_identity::SpiffeId;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};

use crate::exit::Failure;

/// TCP and TLS together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) async fn connect(server: &str, operator_dir: &Path) -> Result<Channel, Failure> {
    let config = credential(operator_dir).map_err(Failure::input)?;
    let stream =
        tokio::time::timeout(CONNECT_TIMEOUT, open(server, config)).await.map_err(|_elapsed| {
            anyhow!("{server} does not answer within {CONNECT_TIMEOUT:?}; check --server")
        })??;
    Ok(channel(stream).await?)
}

/// TLS with the operator's certificate and key. The trust domain is the one of that certificate.
fn credential(directory: &Path) -> Result<rustls::ClientConfig> {
    let read = |name: &str| {
        let path = directory.join(name);
        std::fs::read(&path).with_context(|| {
            format!("cannot read {}; point --operator-dir at an operator's directory", path.display())
        })
    };
    let (certificate, key, roots) = (read("operator.crt")?, read("operator.key")?, read("roots.pem")?);
    let svid = Svid::from_pem(&certificate, &key)
        .with_context(|| format!("{}: not an operator's credential", directory.display()))?;
    let bundle = TrustBundle::from_pem(svid.id.trust_domain().clone(), &roots)
        .with_context(|| format!("{}: cannot be used", directory.join("roots.pem").display()))?;
    svid.verify(&bundle, SystemTime::now())
        .with_context(|| format!("{}: the operator's certificate cannot be used", directory.display()))?;
    let expected = ExpectedPeer::only(SpiffeId::control_plane(svid.id.trust_domain()));
    Ok(tls::client_config(Some(&svid), &bundle, expected, &[b"h2"])?)
}

async fn open(server: &str, config: rustls::ClientConfig) -> Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(server)
        .await
        .with_context(|| format!("cannot connect to {server}; is the control plane running there?"))?;
    tcp.set_nodelay(true)?;
    // The certificate is judged by SPIFFE id; the name is not sent and not looked at.
    let name = ServerName::try_from("control-plane.invalid")?;
    TlsConnector::from(Arc::new(config)).connect(name, tcp).await.map_err(|error| {
        let reason = tls::io_reason(&error);
        anyhow!(error).context(format!(
            "{server} is not the control plane that --operator-dir belongs to ({reason}); check --server and \
             --operator-dir"
        ))
    })
}

/// A channel over this one connection: a command makes one call, and a reconnect would repeat it unasked.
async fn channel(stream: TlsStream<TcpStream>) -> Result<Channel> {
    let mut stream = Some(TokioIo::new(stream));
    let connector = tower::service_fn(move |_uri| {
        let stream = stream.take().ok_or_else(|| std::io::Error::other("the connection has ended"));
        std::future::ready(stream)
    });
    let endpoint = Endpoint::from_static("https://control-plane.invalid");
    endpoint.connect_with_connector(connector).await.context("the control plane does not speak HTTP/2")
}
