//! X.509-SVIDs: a certificate chain, its key, and the one SPIFFE id in it.

use std::sync::Arc;
use std::time::SystemTime;

use palisade_identity::SpiffeId;
use rustls::sign::SigningKey;
use rustls_pki_types::CertificateDer;

/// A workload's own certificate and key, checked: exactly one SPIFFE URI, leaf rules of the standard, key matches.
pub struct Svid {
    pub id: SpiffeId,
    /// Leaf first, then intermediates.
    pub chain: Vec<CertificateDer<'static>>,
    pub not_before: SystemTime,
    pub not_after: SystemTime,
    /// Upper-case hex.
    pub serial: String,
    #[expect(dead_code, reason = "read by tls")]
    pub(crate) key: Arc<dyn SigningKey>,
}

/// Why a certificate is no SVID, or not one to be used now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SvidError {
    #[error("the certificate cannot be read")]
    Malformed,
}

impl std::fmt::Debug for Svid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Svid").field("id", &self.id).field("serial", &self.serial).finish_non_exhaustive()
    }
}
