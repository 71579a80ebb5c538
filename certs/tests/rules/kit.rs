//! A small mesh of certificates, and handshakes over an in-memory pipe.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use palisade_certs::ca::{Authority, Issued, RootAuthority};
use palisade_certs::csr::PendingKey;
use palisade_certs::{Svid, TrustBundle};
use palisade_identity::{SpiffeId, TrustDomain};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector};

pub(crate) const HOUR: Duration = Duration::from_secs(3600);
pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);

pub(crate) fn domain(text: &str) -> TrustDomain {
    TrustDomain::parse(text).unwrap()
}

pub(crate) fn id(text: &str) -> SpiffeId {
    SpiffeId::parse(text).unwrap()
}

pub(crate) fn now() -> SystemTime {
    SystemTime::now()
}

/// One trust domain with its CA.
pub(crate) struct Mesh {
    pub(crate) domain: TrustDomain,
    pub(crate) root: RootAuthority,
    pub(crate) authority: Authority,
}

impl Mesh {
    pub(crate) fn new(name: &str) -> Self {
        Self::made_at(name, now() - DAY)
    }

    pub(crate) fn made_at(name: &str, at: SystemTime) -> Self {
        let domain = domain(name);
        let root = RootAuthority::generate(&domain, at).unwrap();
        let authority = root.intermediate(at).unwrap();
        Self { domain, root, authority }
    }

    pub(crate) fn bundle(&self) -> TrustBundle {
        TrustBundle::new(self.domain.clone(), vec![self.root.certificate().clone()]).unwrap()
    }

    pub(crate) fn workload(&self, namespace: &str, service_account: &str) -> SpiffeId {
        id(&format!("spiffe://{}/ns/{namespace}/sa/{service_account}", self.domain))
    }

    pub(crate) fn issue(&self, id: &SpiffeId, ttl: Duration, at: SystemTime) -> (Issued, PendingKey) {
        let key = PendingKey::generate().unwrap();
        let issued = self.authority.issue(id, &key.csr_der().unwrap(), ttl, at).unwrap();
        (issued, key)
    }

    pub(crate) fn svid(&self, id: &SpiffeId) -> Svid {
        self.svid_made_at(id, now())
    }

    pub(crate) fn svid_made_at(&self, id: &SpiffeId, at: SystemTime) -> Svid {
        let (issued, key) = self.issue(id, HOUR, at);
        Svid::from_der(issued.chain, key.private_key_der()).unwrap()
    }

    /// A chain that ends with the root, as the control plane shows it.
    pub(crate) fn svid_with_root(&self, id: &SpiffeId) -> Svid {
        let (mut issued, key) = self.issue(id, HOUR, now());
        issued.chain.push(self.root.certificate().clone());
        Svid::from_der(issued.chain, key.private_key_der()).unwrap()
    }
}

/// What both sides of a handshake ended with. With TLS 1.3 a client may think that all is well before the server has
/// looked at its certificate, so each side also reads one byte of the other.
pub(crate) async fn handshake(
    server: rustls::ServerConfig,
    client: rustls::ClientConfig,
) -> (io::Result<()>, io::Result<()>) {
    let (near, far) = tokio::io::duplex(16 * 1024);
    let serve = async {
        let mut stream = TlsAcceptor::from(Arc::new(server)).accept(near).await?;
        stream.write_all(b"s").await?;
        stream.flush().await?;
        stream.read_u8().await?;
        Ok(stream)
    };
    let call = async {
        let name = ServerName::from(std::net::Ipv4Addr::LOCALHOST);
        let mut stream = TlsConnector::from(Arc::new(client)).connect(name, far).await?;
        stream.write_all(b"c").await?;
        stream.flush().await?;
        stream.read_u8().await?;
        Ok(stream)
    };
    let both = async { tokio::join!(serve, call) };
    let ended = tokio::time::timeout(Duration::from_secs(10), both).await;
    let (server, client): (io::Result<_>, io::Result<_>) = ended.expect("the handshake ends");
    (server.map(drop), client.map(drop))
}
