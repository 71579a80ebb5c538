//! Client TLS configurations, made once per destination and generation of identity.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use palisade_certs::tls::{self as mesh, ExpectedPeer};
use palisade_policy::kind::destination_rule::TlsSettings;
use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use crate::identity::Identity;
use crate::upstream::connect::{ConnectError, Security};

/// The configuration for connections of this security that offer these protocols.
pub(crate) fn client_config(
    security: &Security,
    alpn: &[&[u8]],
    identity: Option<&Identity>,
) -> Result<Arc<ClientConfig>, ConnectError> {
    match security {
        Security::Plaintext => Err(unusable("a plaintext destination has no TLS")),
        Security::Mesh { generation, identities, .. } => {
            let identity = identity.ok_or(ConnectError::NoIdentity)?;
            if identity.generation != *generation || identity.svid.not_after <= SystemTime::now() {
                return Err(ConnectError::NoIdentity);
            }
            let expected = ExpectedPeer::OneOf(identities.clone());
            mesh::client_config(Some(&identity.svid), &identity.bundle, expected, alpn)
                .map(Arc::new)
                .map_err(|error| unusable(&error.to_string()))
        }
        Security::Tls { settings, .. } => external(settings, alpn).map(Arc::new),
    }
}

/// A name for the handshake: SNI where it is a DNS name. In the mesh it proves nothing; ids do.
pub(crate) fn server_name(name: &str, address: SocketAddr) -> ServerName<'static> {
    ServerName::try_from(name.to_owned())
        .unwrap_or_else(|_no_dns_name| ServerName::IpAddress(address.ip().into()))
}

fn unusable(text: &str) -> ConnectError {
    ConnectError::Settings(text.into())
}

/// TLS outside the mesh: 1.2 or 1.3, the server's DNS name checked by webpki against the given or the system's roots.
fn external(settings: &TlsSettings, alpn: &[&[u8]]) -> Result<ClientConfig, ConnectError> {
    let mut roots = rustls::RootCertStore::empty();
    match &settings.ca_certificates {
        Some(path) => {
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|error| unusable(&format!("{path}: {error}")))?;
            }
        }
        None => {
            let (_added, _ignored) =
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err(unusable("there are no roots to check the server with; set caCertificates"));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(&error.to_string()))?
        .with_root_certificates(roots);
    let mut config = match (&settings.client_certificate, &settings.private_key) {
        (Some(chain), Some(key)) => {
            let key_der =
                PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(&format!("{key}: {error}")))?;
            builder
                .with_client_auth_cert(certificates(chain)?, key_der)
                .map_err(|error| unusable(&error.to_string()))?
        }
        _ => builder.with_no_client_auth(),
    };
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Ok(config)
}

fn certificates(path: &str) -> Result<Vec<CertificateDer<'static>>, ConnectError> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| unusable(&format!("{path}: {error}")))
}
