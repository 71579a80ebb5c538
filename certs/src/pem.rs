//! Reading and writing PEM.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::pem::{PemObject, SectionKind};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::limits::PEM_BYTES_MAX;

/// Why a text is no PEM of the kind that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    #[error("it has {0} bytes, at most {PEM_BYTES_MAX} are read")]
    TooLong(usize),
    #[error("it has no section \"-----BEGIN {0}-----\"")]
    Missing(&'static str),
    #[error("a section is cut or not base64")]
    Malformed,
    #[error("it has a private key beside certificates; keep keys in a file of their own")]
    KeyAmongCertificates,
}

/// All certificates of a text, in order. A private key beside them is refused: whoever may read certificates would
/// read the key.
pub(crate) fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemError> {
    check_length(text)?;
    let mut found = Vec::new();
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text) {
        match section.map_err(|_| PemError::Malformed)? {
            (SectionKind::Certificate, der) => found.push(CertificateDer::from(der)),
            (SectionKind::PrivateKey | SectionKind::EcPrivateKey | SectionKind::RsaPrivateKey, _) => {
                return Err(PemError::KeyAmongCertificates);
            }
            _ => {}
        }
    }
    if found.is_empty() {
        return Err(PemError::Missing("CERTIFICATE"));
    }
    Ok(found)
}

/// The first private key of a text: PKCS#8, SEC1 or PKCS#1.
pub(crate) fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, PemError> {
    check_length(text)?;
    PrivateKeyDer::from_pem_slice(text).map_err(|error| match error {
        rustls_pki_types::pem::Error::NoItemsFound => PemError::Missing("PRIVATE KEY"),
        _ => PemError::Malformed,
    })
}

pub(crate) fn write_certificates(chain: &[CertificateDer<'_>]) -> String {
    chain.iter().map(|der| section("CERTIFICATE", der)).collect()
}

/// One PEM section (RFC 7468: 64 characters a line).
pub(crate) fn section(label: &str, der: &[u8]) -> String {
    // Large enough from the start: growing would leave copies of a key behind.
    let mut text = String::with_capacity(64 + 2 * label.len() + der.len().saturating_mul(2));
    text.push_str("-----BEGIN ");
    text.push_str(label);
    text.push_str("-----\n");
    for line in der.chunks(48) {
        STANDARD.encode_string(line, &mut text);
        text.push('\n');
    }
    text.push_str("-----END ");
    text.push_str(label);
    text.push_str("-----\n");
    text
}

fn check_length(text: &[u8]) -> Result<(), PemError> {
    if text.len() > PEM_BYTES_MAX { Err(PemError::TooLong(text.len())) } else { Ok(()) }
}
