//! Making a connection: TCP, then TLS where the key says so, under one deadline.

use std::io;
use std::sync::Arc;

use palisade_policy::kind::destination_rule::TlsSettings;
use std::collections::BTreeSet;
use std::net::SocketAddr;

use palisade_identity::SpiffeId;
use palisade_policy::traffic::{Keepalive, PoolBounds};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::http::transport::Transport;
use crate::identity::{Identity, TCP_ALPN};
use crate::settings::limits::Limits;
use crate::stage::revoked::is_revoked;
use crate::upstream::cluster::Overflow;
use crate::upstream::tls;
use crate::worker::Worker;

/// Everything that makes one upstream connection fit for a request, and another one not. Compared in full, never
/// as a digest: a connection that was proved for one identity must not serve another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) address: SocketAddr,
    pub(crate) wire: Wire,
    pub(crate) security: Security,
}

impl std::hash::Hash for Key {
    /// The address tells nearly all keys apart; equality looks at the rest.
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.address.hash(state);
    }
}

/// The protocol spoken, fixed by prior knowledge or ALPN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    Http1,
    Http2,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Security {
    Plaintext,
    /// Mesh mutual TLS with our identity of this generation, to a server that proves one of these ids.
    Mesh {
        generation: u64,
        identities: Arc<BTreeSet<SpiffeId>>,
        server_name: Arc<str>,
    },
    /// TLS outside the mesh.
    Tls {
        settings: Arc<TlsSettings>,
        server_name: Arc<str>,
    },
}

/// Why there is no connection. Cheap to clone: those who waited for the same attempt share it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("no valid identity of our own")]
    NoIdentity,
    #[error("the host name has no address: {0}")]
    Resolve(Arc<io::Error>),
    #[error("connection refused or unreachable: {0}")]
    Tcp(Arc<io::Error>),
    #[error("TLS failed: {reason}")]
    Tls { reason: &'static str },
    #[error("no connection in time")]
    Timeout,
    #[error("TLS settings of the destination cannot be used: {0}")]
    Settings(Arc<str>),
    #[error("the HTTP connection could not be opened: {0}")]
    Protocol(Arc<hyper::Error>),
    #[error("as many {} as the destination's connectionPool allows", .0.name())]
    Overflow(Overflow),
}

impl ConnectError {
    /// Machine-readable, stable.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::NoIdentity => "no_identity",
            Self::Resolve(_) => "dns_failure",
            Self::Tcp(_) => "connection_refused",
            Self::Tls { reason } => reason,
            Self::Timeout => "connect_timeout",
            Self::Settings(_) => "tls_settings",
            Self::Protocol(_) => "upstream_protocol",
            Self::Overflow(_) => "upstream_overflow",
        }
    }

    /// Whether it says something about the endpoint, and not only about us.
    pub(crate) fn is_of_endpoint(&self) -> bool {
        matches!(self, Self::Tcp(_) | Self::Tls { .. } | Self::Timeout | Self::Protocol(_))
    }

    /// Envoy's response flag.
    pub(crate) fn flag(&self) -> &'static str {
        match self {
            Self::Resolve(_) => "DF",
            Self::Protocol(_) => "UPE",
            Self::Overflow(_) => "UO",
            _ => "UF",
        }
    }
}

/// Opens a connection for `key`.
pub(crate) async fn connect(
    worker: &Worker,
    key: &Key,
    identity: Option<&Identity>,
    bounds: &PoolBounds,
) -> Result<Transport, ConnectError> {
    let offer = match key.wire {
        Wire::Http1 => Offer { alpn: &[b"http/1.1"], must: None },
        // A server that does not say that it reads HTTP/2 is not sent any (RFC 9113 section 3.2).
        Wire::Http2 => Offer { alpn: &[b"h2"], must: Some(b"h2") },
    };
    open(worker, key.address, &key.security, offer, identity, bounds).await
}

/// Opens a connection that bytes of any protocol are carried on.
pub(crate) async fn connect_tcp(
    worker: &Worker,
    address: SocketAddr,
    security: &Security,
    identity: Option<&Identity>,
    bounds: &PoolBounds,
) -> Result<Transport, ConnectError> {
    let offer = match security {
        // A server that took these bytes for HTTP would be another one than the caller means.
        Security::Mesh { .. } => Offer { alpn: &[TCP_ALPN], must: Some(TCP_ALPN) },
        Security::Plaintext | Security::Tls { .. } => Offer { alpn: &[], must: None },
    };
    open(worker, address, security, offer, identity, bounds).await
}

/// What is to be spoken inside TLS.
#[derive(Clone, Copy, Debug)]
struct Offer {
    alpn: &'static [&'static [u8]],
    /// What the server has to agree to.
    must: Option<&'static [u8]>,
}

async fn open(
    worker: &Worker,
    address: SocketAddr,
    security: &Security,
    offer: Offer,
    identity: Option<&Identity>,
    bounds: &PoolBounds,
) -> Result<Transport, ConnectError> {
    let limits: &Limits = &worker.shared.limits;
    let opening = async {
        let stream = TcpStream::connect(address).await.map_err(|e| ConnectError::Tcp(Arc::new(e)))?;
        // A proxy writes whole messages: Nagle's wait for more helps nobody.
        stream.set_nodelay(true).map_err(|e| ConnectError::Tcp(Arc::new(e)))?;
        if let Some(keepalive) = &bounds.keepalive {
            keep_alive(&stream, keepalive);
        }
        match security {
            Security::Plaintext => Ok(Transport::Plain(stream)),
            Security::Mesh { server_name, .. } | Security::Tls { server_name, .. } => {
                let config = tls::client_config(security, offer.alpn, identity)?;
                let name = tls::server_name(server_name, address);
                let stream = TlsConnector::from(config)
                    .connect(name, stream)
                    .await
                    .map_err(|error| ConnectError::Tls { reason: palisade_certs::tls::io_reason(&error) })?;
                if offer.must.is_some() && stream.get_ref().1.alpn_protocol() != offer.must {
                    return Err(ConnectError::Tls { reason: "noApplicationProtocol" });
                }
                let transport = Transport::Tls(Box::new(stream.into()));
                let mesh = matches!(security, Security::Mesh { .. });
                if mesh && transport.peer_serial().is_none_or(|serial| is_revoked(worker, &serial)) {
                    return Err(ConnectError::Tls { reason: "revoked" });
                }
                Ok(transport)
            }
        }
    };
    let timeout = bounds.connect_timeout.unwrap_or(limits.connect_timeout);
    tokio::time::timeout(timeout, opening).await.unwrap_or(Err(ConnectError::Timeout))
}

/// A socket that cannot have it works without.
fn keep_alive(stream: &TcpStream, wanted: &Keepalive) {
    let mut options = TcpKeepalive::new();
    if let Some(time) = wanted.time {
        options = options.with_time(time);
    }
    if let Some(interval) = wanted.interval {
        options = options.with_interval(interval);
    }
    if let Some(probes) = wanted.probes {
        options = options.with_retries(probes);
    }
    if let Err(error) = SockRef::from(stream).set_tcp_keepalive(&options) {
        tracing::debug!(%error, "a connection has no keep-alive");
    }
}
