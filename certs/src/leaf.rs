//! What a leaf certificate must be to count as an X.509-SVID (X509-SVID standard, sections 2 to 4).

use std::time::{Duration, SystemTime};

use palisade_identity::SpiffeId;
use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;

use crate::key::check_public_key;
use crate::svid::SvidError;

/// A leaf that keeps the rules. Nothing is said yet about who signed it or when it is valid.
pub(crate) struct Leaf {
    pub(crate) id: SpiffeId,
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
    pub(crate) serial: String,
    pub(crate) server_auth: bool,
    pub(crate) client_auth: bool,
}

/// Reads a leaf and checks every rule that depends on it alone.
pub(crate) fn inspect(leaf: &CertificateDer<'_>) -> Result<Leaf, SvidError> {
    let (rest, certificate) = X509Certificate::from_der(leaf).map_err(|_| SvidError::Malformed)?;
    if !rest.is_empty() {
        return Err(SvidError::Malformed);
    }
    check_constraints(&certificate)?;
    check_public_key(certificate.public_key()).map_err(SvidError::WeakKey)?;
    let usages = certificate.extended_key_usage().map_err(|_| SvidError::Malformed)?;
    // The standard lets a leaf go without this extension. Then anything goes, which is not what we want to rely on.
    let usages = usages.ok_or(SvidError::NoExtendedKeyUsage)?;
    Ok(Leaf {
        id: spiffe_id(&certificate)?,
        not_before: time(certificate.validity().not_before)?,
        not_after: time(certificate.validity().not_after)?,
        serial: hex::encode_upper(certificate.raw_serial()),
        server_auth: usages.value.server_auth,
        client_auth: usages.value.client_auth,
    })
}

/// No CA, signs handshakes, signs no certificates and no revocation lists.
fn check_constraints(certificate: &X509Certificate<'_>) -> Result<(), SvidError> {
    let constraints = certificate.basic_constraints().map_err(|_| SvidError::Malformed)?;
    if constraints.is_some_and(|constraints| constraints.value.ca) {
        return Err(SvidError::IsAuthority);
    }
    let usage = certificate.key_usage().map_err(|_| SvidError::Malformed)?;
    let usage = usage.ok_or(SvidError::KeyUsage("has no digitalSignature"))?.value;
    if usage.key_cert_sign() || usage.crl_sign() {
        return Err(SvidError::KeyUsage("has keyCertSign or cRLSign"));
    }
    if !usage.digital_signature() {
        return Err(SvidError::KeyUsage("has no digitalSignature"));
    }
    Ok(())
}

/// The one URI among the subject alternative names. DNS names and addresses beside it are allowed and mean nothing
/// here; a name that cannot be read is refused, since another reader might see a URI in it.
fn spiffe_id(certificate: &X509Certificate<'_>) -> Result<SpiffeId, SvidError> {
    let names = certificate.subject_alternative_name().map_err(|_| SvidError::Malformed)?;
    let names = names.ok_or(SvidError::NoUri)?;
    let mut found = None;
    for name in &names.value.general_names {
        match name {
            GeneralName::URI(uri) if found.is_none() => found = Some(*uri),
            GeneralName::URI(_) => return Err(SvidError::SeveralUris),
            GeneralName::Invalid(..) => return Err(SvidError::Malformed),
            _ => {}
        }
    }
    SpiffeId::parse(found.ok_or(SvidError::NoUri)?).map_err(SvidError::SpiffeId)
}

pub(crate) fn time(time: ASN1Time) -> Result<SystemTime, SvidError> {
    let seconds = u64::try_from(time.timestamp()).map_err(|_| SvidError::Malformed)?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).ok_or(SvidError::Malformed)
}
