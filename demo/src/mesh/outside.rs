//! The outside of the edge: a CA for server names, and clients that trust it. Made at start, gone with the demo.

use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::{Context as _, Result};
use palisade_certs::tls::provider;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use super::HOST;

/// Of the edge's certificate, in the Gateway.
pub(super) const CREDENTIAL: &str = "api";
/// The CA's certificate, in a folder of credentials.
pub(super) const OUTSIDE_CA: &str = "outside-ca.pem";

/// Makes a folder of credentials for an edge in a container, with the CA that clients have to trust. What is there
/// already stays: clients may know it.
pub fn prepare_credentials(folder: &Path) -> Result<()> {
    let ca = folder.join(OUTSIDE_CA);
    if ca.exists() { Ok(()) } else { prepare(&ca, &folder.join(CREDENTIAL), HOST) }
}

/// Writes the CA's certificate to `ca` and a server's certificate with its key into `credential`. The CA's key is kept
/// nowhere.
pub(super) fn prepare(ca: &Path, credential: &Path, host: &str) -> Result<()> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, "Palisade demo, the outside");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;

    let mut params = CertificateParams::new(vec![host.to_owned()])?;
    params.distinguished_name.push(DnType::CommonName, host);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let leaf = params.signed_by(&key, &issuer)?;

    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(credential)?;
    write(&credential.join("tls.crt"), &leaf.pem())?;
    write(&credential.join("tls.key"), &key.serialize_pem())?;
    // Last: once it is there, all of it is.
    write(ca, &issuer.pem())
}

/// A client that trusts this CA.
pub(super) fn client(ca: &Path) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_file(ca).with_context(|| format!("cannot read {}", ca.display()))?;
    roots.add(ca)?;
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// A new file for nobody else to read.
fn write(path: &Path, text: &str) -> Result<()> {
    let mut options = std::fs::File::options();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))
}
