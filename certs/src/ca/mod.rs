//! The CA: a root that signs intermediates, an intermediate that signs SVIDs from its own template.

mod template;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use palisade_identity::{SpiffeId, TrustDomain, TrustDomainError};
use rcgen::Issuer;
use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use zeroize::Zeroizing;

use crate::bundle::{BundleError, TrustBundle, check_root};
use crate::csr::{self, CsrError};
use crate::key::{KeyError, P256Key};
use crate::leaf;
use crate::limits::{BACKDATE, INTERMEDIATE_LIFE, ROOT_LIFE, SVID_TTL_MIN};
use crate::pem::{self, PemError};
pub use template::ServerNames;
use template::Validity;

/// The root: certificate and key. Needed only to sign an intermediate.
#[derive(Clone)]
#[expect(missing_debug_implementations, reason = "a private key has no Debug, so that it cannot be logged")]
pub struct RootAuthority(Arc<Signer>);

/// An intermediate and its root certificate: what signs SVIDs.
#[derive(Clone)]
#[expect(missing_debug_implementations, reason = "a private key has no Debug, so that it cannot be logged")]
pub struct Authority {
    signer: Arc<Signer>,
    root: CertificateDer<'static>,
}

/// A certificate chain as issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// Leaf, intermediate; no root.
    pub chain: Vec<CertificateDer<'static>>,
    /// Upper-case hex.
    pub serial: String,
    pub not_before: SystemTime,
    pub not_after: SystemTime,
}

/// A CA as it is kept on disk.
#[expect(missing_debug_implementations, reason = "a private key has no Debug, so that it cannot be logged")]
pub struct AuthorityPem {
    /// The root, or intermediate and root.
    pub certificates: String,
    pub key: Zeroizing<String>,
}

/// Why a CA could not be made or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    #[error("the certificate of the CA cannot be read")]
    Pem(#[source] PemError),
    #[error("the key of the CA cannot be used")]
    Key(#[source] KeyError),
    #[error("the key does not belong to the certificate of the CA")]
    KeyMismatch,
    #[error("the certificate is not that of a CA")]
    Certificate(#[source] BundleError),
    #[error("the certificate of the CA names no trust domain (URI spiffe://<trust-domain>)")]
    NoTrustDomain,
    #[error("the trust domain of the CA is wrong")]
    TrustDomain(#[source] TrustDomainError),
    #[error("{found} certificates were given, {expected} are needed: {which}")]
    Count { found: usize, expected: usize, which: &'static str },
    #[error("the certificate of the CA could not be signed")]
    Sign(#[source] IssueError),
}

/// Why a certificate was not issued.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    #[error("the signing request is refused")]
    Csr(#[source] CsrError),
    #[error("{id} is not in the trust domain {expected} of this CA")]
    OtherTrustDomain { id: SpiffeId, expected: TrustDomain },
    #[error("a certificate lives at least {} s", SVID_TTL_MIN.as_secs())]
    TtlTooShort,
    #[error("the CA certificate is not valid now; renew the intermediate, and compare the clock")]
    AuthorityNotValid,
    #[error("{0:?} cannot be written into a certificate")]
    Name(String),
    #[error("the clock is out of the range of certificates")]
    Clock,
    #[error("the certificate could not be signed")]
    Crypto,
}

struct Signer {
    issuer: Issuer<'static, P256Key>,
    certificate: CertificateDer<'static>,
    trust_domain: TrustDomain,
    validity: Validity,
}

impl RootAuthority {
    /// Makes a root for `domain`, valid for ten years.
    pub fn generate(domain: &TrustDomain, now: SystemTime) -> Result<Self, AuthorityError> {
        let key = P256Key::generate().map_err(AuthorityError::Key)?;
        let validity = lifetime(now, ROOT_LIFE).map_err(AuthorityError::Sign)?;
        let params = template::root(domain, validity).map_err(AuthorityError::Sign)?;
        let certificate = params.self_signed(&key).map_err(|_| AuthorityError::Sign(IssueError::Crypto))?;
        Ok(Self(Arc::new(Signer::new(certificate.der().clone(), key)?)))
    }

    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, AuthorityError> {
        let certificates = pem::certificates(certificate.as_bytes()).map_err(AuthorityError::Pem)?;
        let [root] = <[_; 1]>::try_from(certificates).map_err(|given| AuthorityError::Count {
            found: given.len(),
            expected: 1,
            which: "the root",
        })?;
        let key = P256Key::from_pem(key.as_bytes()).map_err(AuthorityError::Key)?;
        Ok(Self(Arc::new(Signer::new(root, key)?)))
    }

    pub fn to_pem(&self) -> AuthorityPem {
        AuthorityPem {
            certificates: pem::write_certificates(std::slice::from_ref(&self.0.certificate)),
            key: self.0.issuer.key().to_pem(),
        }
    }

    pub fn trust_domain(&self) -> &TrustDomain {
        &self.0.trust_domain
    }

    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.0.certificate
    }

    /// Makes an intermediate, valid for a year or as long as this root, whichever ends first.
    pub fn intermediate(&self, now: SystemTime) -> Result<Authority, AuthorityError> {
        let root = &self.0;
        let key = P256Key::generate().map_err(AuthorityError::Key)?;
        let validity = root.within(now, INTERMEDIATE_LIFE).map_err(AuthorityError::Sign)?;
        let params = template::intermediate(&root.trust_domain, validity).map_err(AuthorityError::Sign)?;
        let certificate =
            params.signed_by(&key, &root.issuer).map_err(|_| AuthorityError::Sign(IssueError::Crypto))?;
        let signer = Arc::new(Signer::new(certificate.der().clone(), key)?);
        Ok(Authority { signer, root: root.certificate.clone() })
    }
}

impl Authority {
    /// Reads an intermediate and its root, in this order, and the key of the intermediate.
    pub fn from_pem(certificates: &str, key: &str) -> Result<Self, AuthorityError> {
        let certificates = pem::certificates(certificates.as_bytes()).map_err(AuthorityError::Pem)?;
        let [intermediate, root] =
            <[_; 2]>::try_from(certificates).map_err(|given| AuthorityError::Count {
                found: given.len(),
                expected: 2,
                which: "the intermediate, then its root",
            })?;
        let key = P256Key::from_pem(key.as_bytes()).map_err(AuthorityError::Key)?;
        let signer = Arc::new(Signer::new(intermediate, key)?);
        TrustBundle::new(signer.trust_domain.clone(), vec![root.clone()])
            .map_err(AuthorityError::Certificate)?;
        Ok(Self { signer, root })
    }

    pub fn to_pem(&self) -> AuthorityPem {
        AuthorityPem {
            certificates: pem::write_certificates(&[self.signer.certificate.clone(), self.root.clone()]),
            key: self.signer.issuer.key().to_pem(),
        }
    }

    pub fn trust_domain(&self) -> &TrustDomain {
        &self.signer.trust_domain
    }

    /// The certificate of the intermediate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.signer.certificate
    }

    /// The certificate of the root. A server that is found by a pinned root appends it to its chain.
    pub fn root(&self) -> &CertificateDer<'static> {
        &self.root
    }

    /// When the intermediate ends.
    pub fn not_after(&self) -> SystemTime {
        self.signer.validity.not_after
    }

    /// Issues an SVID for the key of a signing request. Names and extensions in the request are ignored; its
    /// signature must be that of the key in it. A `ttl` beyond the life of the intermediate is cut to it.
    pub fn issue(
        &self,
        id: &SpiffeId,
        csr_der: &[u8],
        ttl: Duration,
        now: SystemTime,
    ) -> Result<Issued, IssueError> {
        self.issue_server(id, &ServerNames::default(), csr_der, ttl, now)
    }

    /// As `issue`, with DNS names and addresses beside the SPIFFE id: for the control plane's own listener.
    pub fn issue_server(
        &self,
        id: &SpiffeId,
        names: &ServerNames,
        csr_der: &[u8],
        ttl: Duration,
        now: SystemTime,
    ) -> Result<Issued, IssueError> {
        if id.trust_domain() != self.trust_domain() {
            return Err(IssueError::OtherTrustDomain {
                id: id.clone(),
                expected: self.trust_domain().clone(),
            });
        }
        if ttl < SVID_TTL_MIN {
            return Err(IssueError::TtlTooShort);
        }
        let public_key = csr::proven_key(csr_der).map_err(IssueError::Csr)?;
        let params = template::leaf(id, names, self.signer.within(now, ttl)?)?;
        let certificate =
            params.signed_by(&public_key, &self.signer.issuer).map_err(|_| IssueError::Crypto)?;
        // What is given out is what the verifiers of the mesh accept, or nothing.
        let leaf = leaf::inspect(certificate.der()).map_err(|_| IssueError::Crypto)?;
        Ok(Issued {
            chain: vec![certificate.der().clone(), self.signer.certificate.clone()],
            serial: leaf.serial,
            not_before: leaf.not_before,
            not_after: leaf.not_after,
        })
    }
}

impl Signer {
    fn new(certificate: CertificateDer<'static>, key: P256Key) -> Result<Self, AuthorityError> {
        let unreadable = || AuthorityError::Certificate(BundleError::Malformed(1));
        let named = check_root(&certificate, 1).map_err(AuthorityError::Certificate)?;
        let named = named.ok_or(AuthorityError::NoTrustDomain)?;
        let trust_domain = TrustDomain::parse(&named).map_err(AuthorityError::TrustDomain)?;
        let (_, parsed) = X509Certificate::from_der(&certificate).map_err(|_| unreadable())?;
        if parsed.public_key().subject_public_key.data.as_ref() != key.public_point() {
            return Err(AuthorityError::KeyMismatch);
        }
        let time = |time| leaf::time(time).map_err(|_| unreadable());
        let validity = Validity {
            not_before: time(parsed.validity().not_before)?,
            not_after: time(parsed.validity().not_after)?,
        };
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(|_| unreadable())?;
        Ok(Self { issuer, certificate, trust_domain, validity })
    }

    /// A life from now, cut to that of this CA: a certificate that outlives its issuer fails without warning.
    fn within(&self, now: SystemTime, life: Duration) -> Result<Validity, IssueError> {
        if now < self.validity.not_before || now >= self.validity.not_after {
            return Err(IssueError::AuthorityNotValid);
        }
        let asked = lifetime(now, life)?;
        Ok(Validity {
            not_before: asked.not_before.max(self.validity.not_before),
            not_after: asked.not_after.min(self.validity.not_after),
        })
    }
}

fn lifetime(now: SystemTime, life: Duration) -> Result<Validity, IssueError> {
    let since_epoch = now.duration_since(SystemTime::UNIX_EPOCH).map_err(|_| IssueError::Clock)?;
    let now = SystemTime::UNIX_EPOCH
        .checked_add(Duration::from_secs(since_epoch.as_secs()))
        .ok_or(IssueError::Clock)?;
    Ok(Validity {
        not_before: now.checked_sub(BACKDATE).ok_or(IssueError::Clock)?,
        not_after: now.checked_add(life).ok_or(IssueError::Clock)?,
    })
}
