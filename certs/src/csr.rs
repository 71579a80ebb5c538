//! Certificate signing requests: made by the proxy, read by the CA.

use rustls_pki_types::PrivateKeyDer;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::oid_registry::{
    OID_PKCS1_SHA256WITHRSA, OID_PKCS1_SHA384WITHRSA, OID_PKCS1_SHA512WITHRSA, OID_SIG_ECDSA_WITH_SHA256,
    OID_SIG_ECDSA_WITH_SHA384, OID_SIG_ED25519,
};
use x509_parser::prelude::FromDer;
use zeroize::Zeroizing;

use crate::key::{P256Key, WeakKey, check_public_key};
use crate::limits::CSR_BYTES_MAX;
pub use crate::{key::KeyError, pem::PemError};

/// A key pair that waits for its certificate.
#[expect(missing_debug_implementations, reason = "a private key has no Debug, so that it cannot be logged")]
pub struct PendingKey {
    key: P256Key,
}

/// Why a signing request is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CsrError {
    #[error("the signing request has {0} bytes, at most {CSR_BYTES_MAX} are read")]
    TooLong(usize),
    #[error("the signing request is no PKCS#10 in DER")]
    Malformed,
    #[error("the key in the signing request is too weak")]
    WeakKey(#[source] WeakKey),
    #[error("the signing request is signed with an algorithm that is not accepted; use SHA-256 or better")]
    Algorithm,
    #[error("the signing request is not signed by the key in it")]
    Signature,
}

impl PendingKey {
    /// Makes an ECDSA P-256 key pair.
    pub fn generate() -> Result<Self, KeyError> {
        Ok(Self { key: P256Key::generate()? })
    }

    /// A PKCS#10 request for this key. It has no names: the CA decides them.
    pub fn csr_der(&self) -> Result<Vec<u8>, KeyError> {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        let request = params.serialize_request(&self.key).map_err(|_| KeyError::Crypto)?;
        Ok(request.der().to_vec())
    }

    /// The private key in PKCS#8. The caller wipes it (`zeroize`) or gives it to what does.
    pub fn private_key_der(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.key.pkcs8())
    }

    pub fn to_pem(&self) -> Zeroizing<String> {
        self.key.to_pem()
    }

    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        Ok(Self { key: P256Key::from_pem(text.as_bytes())? })
    }
}

/// The public key of a request that proves possession of the private one. Names and extensions in the request are
/// not even looked at.
pub(crate) fn proven_key(der: &[u8]) -> Result<rcgen::SubjectPublicKeyInfo, CsrError> {
    if der.len() > CSR_BYTES_MAX {
        return Err(CsrError::TooLong(der.len()));
    }
    let (rest, request) = X509CertificationRequest::from_der(der).map_err(|_| CsrError::Malformed)?;
    if !rest.is_empty() {
        return Err(CsrError::Malformed);
    }
    let info = &request.certification_request_info.subject_pki;
    check_public_key(info).map_err(CsrError::WeakKey)?;
    let accepted = [
        OID_SIG_ECDSA_WITH_SHA256,
        OID_SIG_ECDSA_WITH_SHA384,
        OID_SIG_ED25519,
        OID_PKCS1_SHA256WITHRSA,
        OID_PKCS1_SHA384WITHRSA,
        OID_PKCS1_SHA512WITHRSA,
    ];
    if !accepted.contains(&request.signature_algorithm.algorithm) {
        return Err(CsrError::Algorithm);
    }
    request.verify_signature().map_err(|_| CsrError::Signature)?;
    rcgen::SubjectPublicKeyInfo::from_der(info.raw).map_err(|_| CsrError::WeakKey(WeakKey::Kind))
}
