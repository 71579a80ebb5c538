//! The three certificates that a CA of ours signs. Everything in them comes from here, nothing from a request.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use palisade_identity::{SpiffeId, TrustDomain};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyUsagePurpose, SanType, SerialNumber, string::Ia5String,
};

use super::IssueError;
use crate::limits::SERIAL_BITS;

/// From when to when, in whole seconds as X.509 has them.
#[derive(Clone, Copy)]
pub(super) struct Validity {
    pub(super) not_before: SystemTime,
    pub(super) not_after: SystemTime,
}

/// Names of a server beside its SPIFFE id, for clients that know it by address only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerNames {
    pub dns: Vec<String>,
    pub ip: Vec<IpAddr>,
}

pub(super) fn root(domain: &TrustDomain, validity: Validity) -> Result<CertificateParams, IssueError> {
    authority(domain, "root", BasicConstraints::Constrained(1), validity)
}

pub(super) fn intermediate(
    domain: &TrustDomain,
    validity: Validity,
) -> Result<CertificateParams, IssueError> {
    authority(domain, "intermediate", BasicConstraints::Constrained(0), validity)
}

fn authority(
    domain: &TrustDomain,
    role: &str,
    constraints: BasicConstraints,
    validity: Validity,
) -> Result<CertificateParams, IssueError> {
    let serial = serial()?;
    let mut params = with_validity(validity)?;
    // A part of the serial keeps the names of two generations apart, so that a path is found without guessing.
    let generation: String = hex::encode(serial).chars().take(8).collect();
    params.distinguished_name.push(DnType::OrganizationName, "Palisade");
    params.distinguished_name.push(DnType::CommonName, format!("{domain} {role} {generation}"));
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.is_ca = IsCa::Ca(constraints);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    // X509-SVID standard, 3.1: a signing certificate names its trust domain.
    params.subject_alt_names = vec![uri(&format!("spiffe://{domain}"))?];
    Ok(params)
}

/// The subject is empty and the subject alternative name critical: the SPIFFE id is the only name.
pub(super) fn leaf(
    id: &SpiffeId,
    names: &ServerNames,
    validity: Validity,
) -> Result<CertificateParams, IssueError> {
    let mut params = with_validity(validity)?;
    params.serial_number = Some(SerialNumber::from_slice(&serial()?));
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.subject_alt_names.push(uri(id.as_str())?);
    for name in &names.dns {
        let name = Ia5String::try_from(name.as_str()).map_err(|_| IssueError::Name(name.clone()))?;
        params.subject_alt_names.push(SanType::DnsName(name));
    }
    params.subject_alt_names.extend(names.ip.iter().copied().map(SanType::IpAddress));
    Ok(params)
}

fn with_validity(validity: Validity) -> Result<CertificateParams, IssueError> {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let at = |time: SystemTime| {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).map_err(|_| IssueError::Clock)?;
        // RFC 5280, 4.1.2.5: certificates end by the year 9999.
        if since > Duration::from_secs(253_402_300_799) { Err(IssueError::Clock) } else { Ok(epoch + since) }
    };
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.use_authority_key_identifier_extension = true;
    params.not_before = at(validity.not_before)?;
    params.not_after = at(validity.not_after)?;
    Ok(params)
}

fn uri(text: &str) -> Result<SanType, IssueError> {
    Ia5String::try_from(text).map(SanType::URI).map_err(|_| IssueError::Name(text.to_owned()))
}

/// A positive number of `SERIAL_BITS` random bits.
fn serial() -> Result<[u8; SERIAL_BITS.div_ceil(8)], IssueError> {
    let mut bytes = [0; SERIAL_BITS.div_ceil(8)];
    SystemRandom::new().fill(&mut bytes).map_err(|_| IssueError::Crypto)?;
    if let Some(first) = bytes.first_mut() {
        // The highest bit is the sign in DER.
        *first &= 0x7f;
    }
    Ok(bytes)
}
