//! Making a connection: TCP, then TLS where the key says so, under one deadline.

use std::io;
use std::sync::Arc;

use palisade_policy::kind::destination_rule::TlsSettings;
use std::collections::BTreeSet;
use std::net::SocketAddr;

use palisade_identity::SpiffeId;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::http::transport::Transport;
use crate::identity::Identity;
use crate::settings::limits::Limits;
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
        }
    }

    /// Envoy's response flag.
    pub(crate) fn flag(&self) -> &'static str {
        match self {
            Self::Resolve(_) => "DF",
            Self::Protocol(_) => "UPE",
            _ => "UF",
        }
    }
}

/// Opens a connection for `key`.
pub(crate) async fn connect(
    worker: &Worker,
    key: &Key,
    identity: Option<&Identity>,
) -> Result<Transport, ConnectError> {
    let limits: &Limits = &worker.shared.limits;
    let opening = async {
        let stream = TcpStream::connect(key.address).await.map_err(|e| ConnectError::Tcp(Arc::new(e)))?;
        // A proxy writes whole messages: Nagle's wait for more helps nobody.
        stream.set_nodelay(true).map_err(|e| ConnectError::Tcp(Arc::new(e)))?;
        match &key.security {
            Security::Plaintext => Ok(Transport::Plain(stream)),
            Security::Mesh { server_name, .. } | Security::Tls { server_name, .. } => {
                let config = tls::client_config(key, identity)?;
                let name = tls::server_name(server_name, key.address);
                let stream = TlsConnector::from(config)
                    .connect(name, stream)
                    .await
                    .map_err(|error| ConnectError::Tls { reason: palisade_certs::tls::io_reason(&error) })?;
                if key.wire == Wire::Http2 && stream.get_ref().1.alpn_protocol() != Some(b"h2") {
                    // It did not say that it reads HTTP/2 (RFC 9113 section 3.2).
                    return Err(ConnectError::Tls { reason: "noApplicationProtocol" });
                }
                Ok(Transport::Tls(Box::new(stream.into())))
            }
        }
    };
    tokio::time::timeout(limits.connect_timeout, opening).await.unwrap_or(Err(ConnectError::Timeout))
}
