//! Trust bundles: the roots of one trust domain.

use palisade_identity::TrustDomain;
use rustls_pki_types::CertificateDer;

/// The roots that vouch for one trust domain. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustBundle {
    pub trust_domain: TrustDomain,
    pub roots: Vec<CertificateDer<'static>>,
}
