//! X.509-SVIDs: a certificate chain, its key, and the one SPIFFE id in it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use palisade_identity::{SpiffeId, SpiffeIdError, TrustDomain};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use zeroize::{Zeroize, Zeroizing};

use crate::bundle::{self, TrustBundle};
use crate::key::WeakKey;
use crate::limits::CHAIN_CERTIFICATES_MAX;
use crate::path::{self, Role};
use crate::pem::{self, PemError};
use crate::{BundleError, leaf};

/// A workload's own certificate and key, checked: exactly one SPIFFE URI, leaf rules of the standard, key matches.
#[derive(Clone)]
pub struct Svid {
    pub id: SpiffeId,
    /// Leaf first, then intermediates.
    pub chain: Vec<CertificateDer<'static>>,
    pub not_before: SystemTime,
    pub not_after: SystemTime,
    /// Upper-case hex.
    pub serial: String,
    pub(crate) key: Arc<dyn SigningKey>,
}

/// Why a certificate is no SVID, or not one to be used now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SvidError {
    #[error("the certificate cannot be read")]
    Malformed,
    #[error("no certificate was given")]
    NoCertificate,
    #[error("the chain has {0} certificates, at most {CHAIN_CERTIFICATES_MAX} are accepted")]
    ChainTooLong(usize),
    #[error("the certificate chain cannot be read")]
    ChainPem(#[source] PemError),
    #[error("the private key cannot be read")]
    KeyPem(#[source] PemError),
    #[error("the private key is of a kind that cannot be used; use ECDSA P-256 in PKCS#8")]
    Key,
    #[error("the private key does not belong to the certificate")]
    KeyMismatch,
    #[error("the key in the certificate is too weak")]
    WeakKey(#[source] WeakKey),
    #[error("the leaf is a CA certificate (basic constraints CA:TRUE)")]
    IsAuthority,
    #[error("the key usage of the leaf {0}")]
    KeyUsage(&'static str),
    #[error("the leaf has no extended key usage; serverAuth and clientAuth are needed")]
    NoExtendedKeyUsage,
    #[error("the extended key usage does not allow this use; serverAuth and clientAuth are needed")]
    WrongPurpose,
    #[error("the leaf has no URI among its subject alternative names; exactly one SPIFFE id is needed")]
    NoUri,
    #[error("the leaf has several URIs among its subject alternative names; exactly one SPIFFE id is needed")]
    SeveralUris,
    #[error("the URI of the leaf is no SPIFFE id")]
    SpiffeId(#[source] SpiffeIdError),
    #[error("{id} is not in the trust domain {expected}")]
    OtherTrustDomain { id: Box<SpiffeId>, expected: TrustDomain },
    #[error("{id} is not an identity that this service may have")]
    WrongIdentity { id: Box<SpiffeId> },
    #[error("the certificate expired {seconds_ago} s ago")]
    Expired { seconds_ago: u64 },
    #[error("the certificate becomes valid in {seconds_left} s; compare the clocks")]
    NotYetValid { seconds_left: u64 },
    #[error("no root of the trust bundle signed this chain; are all intermediates in it?")]
    UnknownRoot,
    #[error("no presented certificate is the pinned root; was the control plane set up anew?")]
    NotPinned,
    #[error("the trust bundle cannot be used")]
    Bundle(#[source] BundleError),
    #[error("a signature in the chain is wrong")]
    BadSignature,
    #[error("an issuer in the chain may not have signed it (no CA, path length, name constraints)")]
    IssuerNotAllowed,
    #[error("the chain takes too much work to check")]
    PathTooCostly,
    #[error("the chain cannot be verified: {0}")]
    Path(String),
}

impl Svid {
    /// Checks the leaf and that the key belongs to it. `verify` says whether a bundle vouches for it now.
    pub fn from_der(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, SvidError> {
        let mut key = Zeroizing::new(key);
        let end_entity = chain.first().ok_or(SvidError::NoCertificate)?;
        if chain.len() > CHAIN_CERTIFICATES_MAX {
            return Err(SvidError::ChainTooLong(chain.len()));
        }
        path::readable(end_entity)?;
        let leaf = leaf::inspect(end_entity)?;
        let signing_key =
            rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).map_err(|_| SvidError::Key)?;
        key.zeroize();
        CertifiedKey::new(chain.clone(), Arc::clone(&signing_key))
            .keys_match()
            .map_err(|_| SvidError::KeyMismatch)?;
        Ok(Self {
            id: leaf.id,
            chain,
            not_before: leaf.not_before,
            not_after: leaf.not_after,
            serial: leaf.serial,
            key: signing_key,
        })
    }

    /// Reads PEM: leaf first, then intermediates; the key in PKCS#8, SEC1 or PKCS#1.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, SvidError> {
        let chain = pem::certificates(chain).map_err(SvidError::ChainPem)?;
        Self::from_der(chain, pem::private_key(key).map_err(SvidError::KeyPem)?)
    }

    /// Whether peers that trust `bundle` accept this SVID at `now`, as a server and as a client.
    pub fn verify(&self, bundle: &TrustBundle, now: SystemTime) -> Result<(), SvidError> {
        let anchors = bundle.anchors().map_err(SvidError::Bundle)?;
        let since_epoch = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let now = UnixTime::since_unix_epoch(since_epoch);
        let (end_entity, intermediates) = self.chain.split_first().ok_or(SvidError::NoCertificate)?;
        for role in [Role::Server, Role::Client] {
            path::verify(end_entity, intermediates, &anchors, &bundle.trust_domain, role, now)?;
        }
        Ok(())
    }

    pub fn chain_pem(&self) -> String {
        pem::write_certificates(&self.chain)
    }

    /// SHA-256 of the leaf's DER, as `x-forwarded-client-cert` shows it.
    pub fn leaf_sha256(&self) -> [u8; 32] {
        self.chain.first().map(bundle::sha256).unwrap_or_default()
    }

    pub(crate) fn certified_key(&self) -> Arc<CertifiedKey> {
        Arc::new(CertifiedKey::new(self.chain.clone(), Arc::clone(&self.key)))
    }
}

impl std::fmt::Debug for Svid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Svid").field("id", &self.id).field("serial", &self.serial).finish_non_exhaustive()
    }
}
