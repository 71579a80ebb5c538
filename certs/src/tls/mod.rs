//! rustls configurations for mesh mutual TLS: TLS 1.3 only, one crypto provider, no resumption.
//!
//! A configuration belongs to one generation of SVID and bundle and is swapped whole. Sessions are never resumed: a
//! resumed one would skip the checks of a newer bundle (CVE-2022-21654).

pub mod public;
mod reason;
mod verifier;

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};
use std::time::SystemTime;

use palisade_identity::{SpiffeId, TrustDomain};
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::server::NoServerSessionStorage;
use rustls::sign::SingleCertAndKey;
use rustls_pki_types::CertificateDer;

use crate::{BundleError, Svid, SvidError, TrustBundle, leaf};
pub use reason::{io_reason, reason};
use verifier::{MeshClients, MeshServer, PinnedServer};

/// Whether a caller must show a certificate. One that is shown is checked either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    Required,
    Optional,
}

/// Who the server at the other end may be. Checked by SPIFFE id, never by DNS name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExpectedPeer {
    OneOf(Arc<BTreeSet<SpiffeId>>),
}

impl ExpectedPeer {
    pub fn only(id: SpiffeId) -> Self {
        Self::OneOf(Arc::new(BTreeSet::from([id])))
    }

    pub fn accepts(&self, id: &SpiffeId) -> bool {
        match self {
            Self::OneOf(ids) => ids.contains(id),
        }
    }
}

/// Why a configuration could not be made.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TlsError {
    #[error("the trust bundle cannot be used")]
    Bundle(#[source] BundleError),
    #[error("the TLS library refuses the configuration")]
    Rustls(#[source] rustls::Error),
}

/// The one crypto provider. Passed to every builder: nothing depends on a process-wide default.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    Arc::clone(&PROVIDER)
}

/// A server of the mesh: shows `svid`, takes callers with an SVID of the bundle's trust domain.
pub fn server_config(
    svid: &Svid,
    bundle: &TrustBundle,
    client_auth: ClientAuth,
    alpn: &[&[u8]],
) -> Result<rustls::ServerConfig, TlsError> {
    let verifier = MeshClients::new(bundle, client_auth).map_err(TlsError::Bundle)?;
    let resolver = SingleCertAndKey::from(svid.certified_key());
    let mut config = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Rustls)?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::new(resolver));
    config.alpn_protocols = owned(alpn);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// A client of the mesh: shows `svid` if it has one, talks only to a server with an expected identity.
pub fn client_config(
    svid: Option<&Svid>,
    bundle: &TrustBundle,
    expected: ExpectedPeer,
    alpn: &[&[u8]],
) -> Result<rustls::ClientConfig, TlsError> {
    let verifier = MeshServer::new(bundle, expected).map_err(TlsError::Bundle)?;
    client(svid, Arc::new(verifier), alpn)
}

/// A client that knows the server only by the hash of its root, as a join token carries it. The server must present
/// that root with its chain, and its identity must be `expected` of the trust domain that the root names (for the
/// control plane: `SpiffeId::control_plane`).
pub fn pinned_client_config(
    root_sha256: [u8; 32],
    expected: fn(&TrustDomain) -> SpiffeId,
    alpn: &[&[u8]],
) -> Result<rustls::ClientConfig, TlsError> {
    client(None, Arc::new(PinnedServer { root_sha256, expected }), alpn)
}

/// The other end of a connection, read from a chain that rustls has verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pub id: SpiffeId,
    /// Upper-case hex.
    pub serial: String,
    pub not_after: SystemTime,
    pub leaf_sha256: [u8; 32],
}

/// The other end, from the chain it presented.
pub fn peer(certs: &[CertificateDer<'_>]) -> Result<Peer, SvidError> {
    let certificate = certs.first().ok_or(SvidError::NoCertificate)?;
    let leaf = leaf::inspect(certificate)?;
    let leaf_sha256 = crate::bundle::sha256(certificate);
    Ok(Peer { id: leaf.id, serial: leaf.serial, not_after: leaf.not_after, leaf_sha256 })
}

/// The identity in a presented chain that rustls has verified.
pub fn peer_id(certs: &[CertificateDer<'_>]) -> Result<SpiffeId, SvidError> {
    let leaf = certs.first().ok_or(SvidError::NoCertificate)?;
    Ok(leaf::inspect(leaf)?.id)
}

fn client(
    svid: Option<&Svid>,
    verifier: Arc<dyn rustls::client::danger::ServerCertVerifier>,
    alpn: &[&[u8]],
) -> Result<rustls::ClientConfig, TlsError> {
    let builder = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Rustls)?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match svid {
        Some(svid) => {
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(svid.certified_key())))
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = owned(alpn);
    config.resumption = Resumption::disabled();
    // Servers of the mesh are told apart by identity and address; a name would only be seen by others on the way.
    config.enable_sni = false;
    Ok(config)
}

fn owned(alpn: &[&[u8]]) -> Vec<Vec<u8>> {
    alpn.iter().map(|protocol| protocol.to_vec()).collect()
}
