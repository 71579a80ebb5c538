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
use rustls::{ClientConfig, RootCertStore};

/// Writes the CA's certificate to `ca` and a server's certificate with its key into `credential`; gives a client that
/// trusts the CA. The CA's key is kept nowhere.
pub(super) fn prepare(ca: &Path, credential: &Path, host: &str) -> Result<ClientConfig> {
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
    write(ca, &issuer.pem())?;
    write(&credential.join("tls.crt"), &leaf.pem())?;
    write(&credential.join("tls.key"), &key.serialize_pem())?;

    let mut roots = RootCertStore::empty();
    roots.add(issuer.der().clone())?;
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
