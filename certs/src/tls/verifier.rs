//! The three checks of a peer's certificates.

use std::sync::Arc;

use palisade_identity::{SpiffeId, TrustDomain};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, PeerIncompatible, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};

use super::{ClientAuth, ExpectedPeer, provider};
use crate::bundle::{self, BundleError, TrustBundle};
use crate::path::{self, Role};
use crate::svid::SvidError;

/// Callers of the mesh: any SVID of the trust domain.
#[derive(Debug)]
pub(super) struct MeshClients {
    anchors: Vec<TrustAnchor<'static>>,
    trust_domain: TrustDomain,
    mandatory: bool,
}

/// A server of the mesh that must have one of some identities.
#[derive(Debug)]
pub(super) struct MeshServer {
    anchors: Vec<TrustAnchor<'static>>,
    trust_domain: TrustDomain,
    expected: ExpectedPeer,
}

/// A server known by the hash of its root.
#[derive(Debug)]
pub(super) struct PinnedServer {
    pub(super) root_sha256: [u8; 32],
    pub(super) expected: fn(&TrustDomain) -> SpiffeId,
}

impl MeshClients {
    pub(super) fn new(bundle: &TrustBundle, client_auth: ClientAuth) -> Result<Self, BundleError> {
        let mandatory = client_auth == ClientAuth::Required;
        Ok(Self { anchors: bundle.anchors()?, trust_domain: bundle.trust_domain.clone(), mandatory })
    }
}

impl MeshServer {
    pub(super) fn new(bundle: &TrustBundle, expected: ExpectedPeer) -> Result<Self, BundleError> {
        Ok(Self { anchors: bundle.anchors()?, trust_domain: bundle.trust_domain.clone(), expected })
    }
}

impl PinnedServer {
    fn check(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), SvidError> {
        let pinned = |certificate: &&CertificateDer<'_>| bundle::sha256(certificate) == self.root_sha256;
        let root = intermediates.iter().find(pinned).ok_or(SvidError::NotPinned)?;
        let named = bundle::check_root(root, 1).map_err(SvidError::Bundle)?.ok_or(SvidError::NotPinned)?;
        let trust_domain = TrustDomain::parse(&named).map_err(|_| SvidError::NotPinned)?;
        let anchor = webpki::anchor_from_trusted_cert(root).map_err(|_| SvidError::Malformed)?;
        let leaf = path::verify(end_entity, intermediates, &[anchor], &trust_domain, Role::Server, now)?;
        if leaf.id != (self.expected)(&trust_domain) {
            return Err(SvidError::WrongIdentity { id: Box::new(leaf.id) });
        }
        Ok(())
    }
}

impl ClientCertVerifier for MeshClients {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    /// Empty: a caller shows its only SVID, and a stranger learns nothing about our CA.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        path::verify(end_entity, intermediates, &self.anchors, &self.trust_domain, Role::Client, now)
            .map_err(refusal)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// Implements what both server verifiers share; `$check` is the part that differs.
macro_rules! server_verifier {
    ($type:ty, $check:expr) => {
        impl ServerCertVerifier for $type {
            fn verify_server_cert(
                &self,
                end_entity: &CertificateDer<'_>,
                intermediates: &[CertificateDer<'_>],
                _server_name: &ServerName<'_>,
                _ocsp_response: &[u8],
                now: UnixTime,
            ) -> Result<ServerCertVerified, rustls::Error> {
                $check(self, end_entity, intermediates, now).map_err(refusal)?;
                Ok(ServerCertVerified::assertion())
            }

            fn verify_tls12_signature(
                &self,
                _message: &[u8],
                _cert: &CertificateDer<'_>,
                _dss: &DigitallySignedStruct,
            ) -> Result<HandshakeSignatureValid, rustls::Error> {
                Err(only_tls13())
            }

            fn verify_tls13_signature(
                &self,
                message: &[u8],
                cert: &CertificateDer<'_>,
                dss: &DigitallySignedStruct,
            ) -> Result<HandshakeSignatureValid, rustls::Error> {
                verify_signature(message, cert, dss)
            }

            fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
                provider().signature_verification_algorithms.supported_schemes()
            }
        }
    };
}

server_verifier!(MeshServer, |this: &MeshServer, end_entity, intermediates, now| {
    let leaf = path::verify(end_entity, intermediates, &this.anchors, &this.trust_domain, Role::Server, now)?;
    if this.expected.accepts(&leaf.id) {
        Ok(())
    } else {
        Err(SvidError::WrongIdentity { id: Box::new(leaf.id) })
    }
});

server_verifier!(PinnedServer, PinnedServer::check);

fn verify_signature(
    message: &[u8],
    cert: &CertificateDer<'_>,
    dss: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, rustls::Error> {
    let algorithms = provider().signature_verification_algorithms;
    rustls::crypto::verify_tls13_signature(message, cert, dss, &algorithms)
}

fn only_tls13() -> rustls::Error {
    PeerIncompatible::Tls13RequiredForQuic.into()
}

/// Chooses the TLS alert: the plain ones where TLS has a name for it. The peer learns no more than that.
fn refusal(error: SvidError) -> rustls::Error {
    rustls::Error::InvalidCertificate(match error {
        SvidError::Expired { .. } => CertificateError::Expired,
        SvidError::NotYetValid { .. } => CertificateError::NotValidYet,
        SvidError::UnknownRoot => CertificateError::UnknownIssuer,
        SvidError::Malformed => CertificateError::BadEncoding,
        SvidError::BadSignature => CertificateError::BadSignature,
        other => CertificateError::Other(OtherError(Arc::new(other))),
    })
}
