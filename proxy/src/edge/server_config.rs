//! From the files of a credential to a TLS configuration. Blocking; called on a thread for such calls.

use std::path::{Path, PathBuf};

use palisade_certs::tls::ClientAuth;
use palisade_certs::tls::public::{self, OldestVersion, PublicError, PublicServer};
use palisade_policy::compile::edge::{Credential, ServerTls};
use palisade_policy::kind::gateway::{GatewayTlsMode, TlsVersion};
use zeroize::Zeroizing;

use crate::config::read::{FileError, whole_file};
use crate::config::sha256_of_parts;

const ALPN: &[&[u8]] = &[b"h2", b"http/1.1"];

/// Why a server of a Gateway has nothing to show.
#[derive(Debug, thiserror::Error)]
pub(super) enum CredentialError {
    #[error(
        "the Gateway names the credential {0:?}, and the edge was not told where credentials are; give --credentials DIR"
    )]
    NoFolder(String),
    #[error(transparent)]
    File(FileError),
    #[error("{}: {error}", path.display())]
    Unusable { path: PathBuf, error: PublicError },
}

/// The files of a credential, as read.
pub(super) struct Material {
    path: PathBuf,
    chain: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
    clients: Option<Vec<u8>>,
    pub(super) digest: [u8; 32],
}

/// Reads what `tls` names. `folder`: of credentials that are named by a word.
pub(super) fn read(
    tls: &ServerTls,
    folder: Option<&Path>,
    bytes_max: u64,
) -> Result<Material, CredentialError> {
    let asks_clients = tls.mode != GatewayTlsMode::Simple;
    let (path, key, ca) = match &tls.credential {
        Credential::Named(name) => {
            let folder = folder.ok_or_else(|| CredentialError::NoFolder(name.to_string()))?;
            // Checked to be one component without dots where the policy was read.
            let home = folder.join(&**name);
            (home.join("tls.crt"), home.join("tls.key"), asks_clients.then(|| home.join("ca.crt")))
        }
        Credential::Files { certificate, key, ca } => {
            let ca = ca.as_ref().filter(|_| asks_clients);
            (PathBuf::from(&**certificate), PathBuf::from(&**key), ca.map(|ca| PathBuf::from(&**ca)))
        }
    };
    let file = |what, path: &Path| whole_file(what, path, bytes_max).map_err(CredentialError::File);
    let chain = file("the certificate", &path)?;
    let key = Zeroizing::new(file("the private key", &key)?);
    let clients = ca.map(|ca| file("the authorities of clients", &ca)).transpose()?;
    let digest = sha256_of_parts([&*chain, &**key, clients.as_deref().unwrap_or_default()]);
    Ok(Material { path, chain, key, clients, digest })
}

impl Material {
    /// `tls`: the one that the files were read for.
    pub(super) fn server(&self, tls: &ServerTls) -> Result<PublicServer, CredentialError> {
        let auth = match tls.mode {
            GatewayTlsMode::Simple => None,
            GatewayTlsMode::Mutual => Some(ClientAuth::Required),
            GatewayTlsMode::OptionalMutual => Some(ClientAuth::Optional),
        };
        let oldest = match tls.min_version {
            TlsVersion::V1_2 => OldestVersion::Tls12,
            TlsVersion::V1_3 => OldestVersion::Tls13,
        };
        // A mode that asks for certificates without authorities would let anybody in: it gets an empty list, which no
        // configuration is made of.
        let clients = auth.map(|auth| (auth, self.clients.as_deref().unwrap_or_default()));
        let credential = public::Credential { chain: &self.chain, key: &self.key, clients };
        public::server(credential, oldest, ALPN)
            .map_err(|error| CredentialError::Unusable { path: self.path.clone(), error })
    }
}
