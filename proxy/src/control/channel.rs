//! One connection to the control plane: TCP, TLS 1.3 by SPIFFE id, HTTP/2. Never made again behind our back: who
//! holds a channel knows which certificate it was opened with.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::settings::control::ControlLimits;

/// What tonic writes as authority. The server is known by its certificate, so the name means nothing.
const AUTHORITY: &str = "http://control-plane";
pub(super) const ALPN: [&[u8]; 1] = [b"h2"];

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum ChannelError {
    #[error("cannot be reached: {0}; is it running, and is --control-plane right?")]
    Tcp(io::Error),
    #[error("is not trusted ({reason}): {error}; {help}")]
    Tls { reason: &'static str, error: io::Error, help: String },
    #[error("did not answer in {0:?}")]
    Timeout(std::time::Duration),
    #[error("speaks no HTTP/2: {0}")]
    Http(tonic::transport::Error),
}

/// Connects to `address` (`host:port`). Also gives the local address, by which others on this network reach us.
pub(super) async fn open(
    address: &str,
    config: ClientConfig,
    limits: &ControlLimits,
    now: SystemTime,
) -> Result<(Channel, IpAddr), ChannelError> {
    let opening = async {
        let socket = TcpStream::connect(address).await.map_err(ChannelError::Tcp)?;
        socket.set_nodelay(true).map_err(ChannelError::Tcp)?;
        let local = socket.local_addr().map_err(ChannelError::Tcp)?.ip().to_canonical();
        let peer = socket.peer_addr().map_err(ChannelError::Tcp)?.ip();
        let name = ServerName::IpAddress(peer.into());
        let stream = TlsConnector::from(Arc::new(config)).connect(name, socket).await.map_err(|error| {
            let reason = palisade_certs::tls::io_reason(&error);
            ChannelError::Tls { reason, error, help: help(reason, now) }
        })?;
        let mut once = Some(TokioIo::new(stream));
        let connector = tower::service_fn(move |_: Uri| {
            let stream = once.take().ok_or_else(|| io::Error::other("the connection has ended"));
            std::future::ready(stream)
        });
        let channel = Endpoint::from_static(AUTHORITY)
            .http2_keep_alive_interval(limits.ping_interval)
            .keep_alive_timeout(limits.ping_timeout)
            .keep_alive_while_idle(true)
            .connect_with_connector(connector)
            .await
            .map_err(ChannelError::Http)?;
        Ok((channel, local))
    };
    let limit = limits.connect_timeout;
    tokio::time::timeout(limit, opening).await.unwrap_or(Err(ChannelError::Timeout(limit)))
}

/// What to do about a handshake that failed.
fn help(reason: &str, now: SystemTime) -> String {
    match reason {
        "notPinned" | "unknownRoot" | "peerSaysUnknownRoot" => {
            "our join token or certificate is of another control plane, or this one was set up anew: make a new \
             token with `palisade token create`, and empty the state directory"
                .into()
        }
        "wrongIdentity" | "wrongTrustDomain" | "notTls" => "check --control-plane".into(),
        "expired" | "notYetValid" | "peerSaysExpired" => {
            format!("this host's clock says {}; compare it with the control plane's", crate::identity::show(now))
        }
        _ => "see the control plane's log".into(),
    }
}
