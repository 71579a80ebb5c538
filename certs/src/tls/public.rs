//! rustls configurations for the outside: a certificate that browsers know, TLS 1.2 or 1.3, certificates of clients
//! where they are asked for. Nothing of it is about SPIFFE.

use std::sync::Arc;
use std::time::SystemTime;

use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use zeroize::Zeroizing;

use super::{ClientAuth, owned, provider};
use crate::leaf::time;
use crate::limits::CHAIN_CERTIFICATES_MAX;
use crate::pem::{self, PemError};

/// The oldest version that is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OldestVersion {
    Tls12,
    Tls13,
}

/// What a server shows, and what it asks of clients. PEM.
#[expect(missing_debug_implementations, reason = "it holds a key")]
#[derive(Clone, Copy)]
pub struct Credential<'a> {
    pub chain: &'a [u8],
    pub key: &'a [u8],
    /// Authorities of clients' certificates; `None`: none is asked for.
    pub clients: Option<(ClientAuth, &'a [u8])>,
}

/// Why no configuration can be made.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PublicError {
    #[error("the certificate chain cannot be read: {0}")]
    Chain(PemError),
    #[error("the certificate chain has {0} certificates, at most {CHAIN_CERTIFICATES_MAX} are shown")]
    ChainTooLong(usize),
    #[error("the private key cannot be read: {0}")]
    Key(PemError),
    #[error("the authorities of clients cannot be read: {0}")]
    Clients(PemError),
    #[error("certificate and key do not make a server: {0}")]
    Rustls(rustls::Error),
    #[error("clients cannot be verified: {0}")]
    Verifier(String),
    #[error("the certificate is malformed")]
    Malformed,
}

/// A configuration, and when its certificate is good.
#[derive(Clone, Debug)]
pub struct PublicServer {
    pub config: Arc<ServerConfig>,
    pub not_before: SystemTime,
    pub not_after: SystemTime,
}

/// A server for the outside. Sessions are resumed by tickets of this configuration alone: those of a server with
/// other rules mean nothing here (CVE-2025-23419). Where clients bring certificates none is resumed, because a resumed
/// session would skip the look at the certificate.
pub fn server(
    credential: Credential<'_>,
    oldest: OldestVersion,
    alpn: &[&[u8]],
) -> Result<PublicServer, PublicError> {
    let chain = pem::certificates(credential.chain).map_err(PublicError::Chain)?;
    if chain.len() > CHAIN_CERTIFICATES_MAX {
        return Err(PublicError::ChainTooLong(chain.len()));
    }
    let (not_before, not_after) = validity(chain.first().ok_or(PublicError::Malformed)?)?;
    let key = Zeroizing::new(pem::private_key(credential.key).map_err(PublicError::Key)?);
    let versions: &[&SupportedProtocolVersion] = match oldest {
        OldestVersion::Tls12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        OldestVersion::Tls13 => &[&rustls::version::TLS13],
    };
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .map_err(PublicError::Rustls)?;
    let builder = match credential.clients {
        None => builder.with_no_client_auth(),
        Some((auth, roots)) => builder.with_client_cert_verifier(verifier(auth, roots)?),
    };
    // Refuses a key that is not the certificate's.
    let mut config =
        builder.with_single_cert(chain, PrivateKeyDer::clone_key(&key)).map_err(PublicError::Rustls)?;
    config.alpn_protocols = owned(alpn);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    if credential.clients.is_some() {
        config.send_tls13_tickets = 0;
    } else {
        config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().map_err(PublicError::Rustls)?;
        // One is enough for a client that comes back; each costs bytes in every handshake.
        config.send_tls13_tickets = 1;
    }
    Ok(PublicServer { config: Arc::new(config), not_before, not_after })
}

fn verifier(
    auth: ClientAuth,
    roots: &[u8],
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, PublicError> {
    let mut store = RootCertStore::empty();
    for root in pem::certificates(roots).map_err(PublicError::Clients)? {
        store.add(root).map_err(PublicError::Rustls)?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider());
    let builder = match auth {
        ClientAuth::Required => builder,
        ClientAuth::Optional => builder.allow_unauthenticated(),
    };
    builder.build().map_err(|error| PublicError::Verifier(error.to_string()))
}

/// A certificate that a client brought and rustls has verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    pub sha256: [u8; 32],
    pub not_after: SystemTime,
}

/// Reads the client's own certificate of a presented chain. `None`: it brought none.
pub fn client(chain: Option<&[CertificateDer<'_>]>) -> Result<Option<ClientCertificate>, PublicError> {
    let Some(leaf) = chain.and_then(<[_]>::first) else { return Ok(None) };
    let (_, not_after) = validity(leaf)?;
    Ok(Some(ClientCertificate { sha256: crate::bundle::sha256(leaf), not_after }))
}

fn validity(certificate: &CertificateDer<'_>) -> Result<(SystemTime, SystemTime), PublicError> {
    let (_, read) = X509Certificate::from_der(certificate).map_err(|_| PublicError::Malformed)?;
    let at = |moment| time(moment).map_err(|_| PublicError::Malformed);
    Ok((at(read.validity().not_before)?, at(read.validity().not_after)?))
}
