//! From a leaf to a root: signatures, validity, constraints, purpose.

use palisade_identity::TrustDomain;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage};

use crate::leaf::{self, Leaf};
use crate::limits::CHAIN_CERTIFICATES_MAX;
use crate::svid::SvidError;
use crate::tls;

#[cfg(test)]
mod limbo;

/// What the holder of the certificate does in the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Server,
    Client,
}

/// Checks a presented chain in full: leaf rules, trust domain, purpose, and a path to one of the anchors.
pub(crate) fn verify(
    end_entity: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    anchors: &[TrustAnchor<'_>],
    trust_domain: &TrustDomain,
    role: Role,
    now: UnixTime,
) -> Result<Leaf, SvidError> {
    let presented = intermediates.len().saturating_add(1);
    if presented > CHAIN_CERTIFICATES_MAX {
        return Err(SvidError::ChainTooLong(presented));
    }
    let certificate = EndEntityCert::try_from(end_entity).map_err(webpki_error)?;
    let leaf = leaf::inspect(end_entity)?;
    // The signature comes before the trust domain and the purpose: the name of a stranger is not worth a word.
    path_to_root(&certificate, intermediates, anchors, role, now)?;
    let fit = match role {
        Role::Server => leaf.server_auth,
        Role::Client => leaf.client_auth,
    };
    if !fit {
        return Err(SvidError::WrongPurpose);
    }
    // A root vouches for its own trust domain only, whatever it signed (RUSTSEC-2026-0098: webpki ignored URI name
    // constraints, so this must be ours).
    if leaf.id.trust_domain() != trust_domain {
        return Err(SvidError::OtherTrustDomain { id: Box::new(leaf.id), expected: trust_domain.clone() });
    }
    Ok(leaf)
}

/// Whether the path code can read the leaf at all: it refuses critical extensions that it does not know.
pub(crate) fn readable(leaf: &CertificateDer<'_>) -> Result<(), SvidError> {
    EndEntityCert::try_from(leaf).map(drop).map_err(webpki_error)
}

/// Signatures, validity, CA constraints and purpose, from the leaf up to an anchor (RFC 5280, section 6).
fn path_to_root(
    leaf: &EndEntityCert<'_>,
    intermediates: &[CertificateDer<'_>],
    anchors: &[TrustAnchor<'_>],
    role: Role,
    now: UnixTime,
) -> Result<(), SvidError> {
    let usage = match role {
        Role::Server => KeyUsage::server_auth(),
        Role::Client => KeyUsage::client_auth(),
    };
    let algorithms = tls::provider().signature_verification_algorithms.all;
    leaf.verify_for_usage(algorithms, anchors, intermediates, now, usage, None, None)
        .map(drop)
        .map_err(webpki_error)
}

fn webpki_error(error: webpki::Error) -> SvidError {
    use webpki::Error as E;
    match error {
        E::BadDer | E::BadDerTime | E::TrailingData(_) | E::MalformedExtensions => SvidError::Malformed,
        E::CertExpired { time, not_after } => {
            SvidError::Expired { seconds_ago: time.as_secs().saturating_sub(not_after.as_secs()) }
        }
        E::CertNotValidYet { time, not_before } => {
            SvidError::NotYetValid { seconds_left: not_before.as_secs().saturating_sub(time.as_secs()) }
        }
        E::UnknownIssuer => SvidError::UnknownRoot,
        E::InvalidSignatureForPublicKey => SvidError::BadSignature,
        E::RequiredEkuNotFoundContext(_) => SvidError::WrongPurpose,
        E::CaUsedAsEndEntity => SvidError::IsAuthority,
        E::EndEntityUsedAsCa | E::PathLenConstraintViolated | E::NameConstraintViolation => {
            SvidError::IssuerNotAllowed
        }
        E::MaximumPathBuildCallsExceeded
        | E::MaximumPathDepthExceeded
        | E::MaximumSignatureChecksExceeded
        | E::MaximumNameConstraintComparisonsExceeded => SvidError::PathTooCostly,
        other => SvidError::Path(format!("{other:?}")),
    }
}
