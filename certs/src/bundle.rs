//! Trust bundles: the roots of one trust domain.

use palisade_identity::TrustDomain;
use rustls_pki_types::{CertificateDer, TrustAnchor};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use crate::key::{WeakKey, check_public_key};
use crate::limits::BUNDLE_ROOTS_MAX;
use crate::pem::{self, PemError};

/// The roots that vouch for one trust domain. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustBundle {
    pub trust_domain: TrustDomain,
    pub roots: Vec<CertificateDer<'static>>,
}

/// Why certificates are no trust bundle.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    #[error("the trust bundle cannot be read")]
    Pem(#[source] PemError),
    #[error("the trust bundle has no root")]
    Empty,
    #[error("the trust bundle has {0} certificates, at most {BUNDLE_ROOTS_MAX} are accepted")]
    TooMany(usize),
    #[error("certificate {0} of the trust bundle is no X.509 certificate")]
    Malformed(usize),
    #[error(
        "certificate {0} of the trust bundle is no CA (basic constraints and key usage); give roots only"
    )]
    NotAnAuthority(usize),
    #[error("the key of certificate {0} of the trust bundle is too weak")]
    WeakKey(usize, #[source] WeakKey),
    #[error("certificate {position} of the trust bundle is for the trust domain {found:?}, not {expected:?}")]
    OtherTrustDomain { position: usize, found: String, expected: String },
}

/// SHA-256 of a certificate's DER: what a join token pins.
pub fn sha256(certificate: &CertificateDer<'_>) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, certificate);
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest.as_ref());
    bytes
}

impl TrustBundle {
    /// A bundle of these roots, each checked to be a CA that names no other trust domain. Positions in errors count
    /// from 1.
    pub fn new(trust_domain: TrustDomain, roots: Vec<CertificateDer<'static>>) -> Result<Self, BundleError> {
        if roots.is_empty() {
            return Err(BundleError::Empty);
        }
        if roots.len() > BUNDLE_ROOTS_MAX {
            return Err(BundleError::TooMany(roots.len()));
        }
        for (position, root) in (1..).zip(&roots) {
            let found = check_root(root, position)?;
            // A root need not name a trust domain (X509-SVID standard, 3.1); one that does must name ours.
            if let Some(found) = found
                && found != trust_domain.as_str()
            {
                return Err(BundleError::OtherTrustDomain {
                    position,
                    found,
                    expected: trust_domain.to_string(),
                });
            }
        }
        Ok(Self { trust_domain, roots })
    }

    /// Reads PEM. Other sections than certificates are passed over, but a private key is refused.
    pub fn from_pem(trust_domain: TrustDomain, text: &[u8]) -> Result<Self, BundleError> {
        Self::new(trust_domain, pem::certificates(text).map_err(BundleError::Pem)?)
    }

    pub fn to_pem(&self) -> String {
        pem::write_certificates(&self.roots)
    }

    pub(crate) fn anchors(&self) -> Result<Vec<TrustAnchor<'static>>, BundleError> {
        if self.roots.is_empty() {
            return Err(BundleError::Empty);
        }
        (1..)
            .zip(&self.roots)
            .map(|(position, root)| {
                let anchor =
                    webpki::anchor_from_trusted_cert(root).map_err(|_| BundleError::Malformed(position))?;
                Ok(anchor.to_owned())
            })
            .collect()
    }
}

/// The trust domain that a root names by a URI `spiffe://<trust-domain>`, if it does.
pub(crate) fn check_root(root: &CertificateDer<'_>, position: usize) -> Result<Option<String>, BundleError> {
    let malformed = |_| BundleError::Malformed(position);
    let (rest, certificate) =
        X509Certificate::from_der(root).map_err(|_| BundleError::Malformed(position))?;
    if !rest.is_empty() {
        return Err(BundleError::Malformed(position));
    }
    let constraints = certificate.basic_constraints().map_err(malformed)?;
    let usage = certificate.key_usage().map_err(malformed)?;
    let signs = usage.is_none_or(|usage| usage.value.key_cert_sign());
    if !constraints.is_some_and(|constraints| constraints.value.ca) || !signs {
        return Err(BundleError::NotAnAuthority(position));
    }
    check_public_key(certificate.public_key()).map_err(|weak| BundleError::WeakKey(position, weak))?;
    let names = certificate.subject_alternative_name().map_err(malformed)?;
    let names = names.map(|names| names.value.general_names.as_slice()).unwrap_or_default();
    Ok(names.iter().find_map(|name| match name {
        GeneralName::URI(uri) => uri.strip_prefix("spiffe://").map(str::to_owned),
        _ => None,
    }))
}
