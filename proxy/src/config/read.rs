//! Reading what a proxy in file mode lives on. Blocking; called on a thread for such calls.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use palisade_certs::tls::TlsError;
use palisade_certs::{BundleError, Svid, SvidError, TrustBundle};
use palisade_policy::document::SourceFile;
use zeroize::Zeroizing;

use super::sha256_of_parts;
use crate::identity::{Identity, both_clocks};
use crate::settings::control::ControlLimits;

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error("{what} {path} cannot be read: {error}; check that it exists and that this user may read it")]
    Read { what: &'static str, path: PathBuf, error: io::Error },
    #[error("{what} {path} has more than {max} bytes; is it the right file?")]
    TooLong { what: &'static str, path: PathBuf, max: u64 },
    #[error("policy file {0} is not UTF-8; save it as UTF-8")]
    Encoding(PathBuf),
    #[error(
        "the policies directory {0} holds no *.yaml or *.yml file; that is taken for a mistake, such as a volume that \
         is not mounted, since without any policy everything would be allowed. If that is what you want, write it: an \
         AuthorizationPolicy with \"rules: [{{}}]\""
    )]
    NoPolicies(PathBuf),
    #[error(
        "policy file {0} is empty, perhaps cut off while it was written; remove it if nothing belongs there"
    )]
    Blank(PathBuf),
    #[error("policy file {0} is a link that leads out of the policies directory; put the file itself there")]
    LinkOut(PathBuf),
    #[error(
        "the policies directory {path} has more than {max} files or {bytes_max} bytes; is it the right directory?"
    )]
    TooMany { path: PathBuf, max: usize, bytes_max: usize },
}

/// Why certificate, key and roots do not make an identity.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CredentialError {
    #[error("{path}: {error}", path = path.display())]
    Svid { path: PathBuf, error: SvidError },
    #[error("{path}: {error}", path = path.display())]
    Roots { path: PathBuf, error: BundleError },
    #[error("{path}: {error}; {clocks}", path = path.display())]
    NotNow { path: PathBuf, error: Box<SvidError>, clocks: String },
    #[error("{path}: {id} is no workload's id; it needs the form spiffe://<trust-domain>/ns/<ns>/sa/<sa>", path = path.display())]
    NoWorkload { path: PathBuf, id: String },
    #[error(transparent)]
    Tls(TlsError),
}

/// The policy files, in the order of their names.
#[derive(Debug)]
pub(crate) struct PolicyFiles {
    pub(crate) files: Vec<SourceFile>,
    pub(crate) digest: [u8; 32],
}

/// PEM as read, not looked at yet.
pub(crate) struct Credentials {
    svid: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
    roots: Vec<u8>,
    pub(crate) digest: [u8; 32],
}

/// Where the PEM files are.
#[derive(Clone, Debug)]
pub(crate) struct CredentialPaths {
    pub(crate) svid: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) roots: PathBuf,
}

/// Reads `*.yaml` and `*.yml` of one directory, not of those in it. Links inside the directory are followed (a
/// mounted ConfigMap is made of them), links out of it refused.
pub(crate) fn policy_files(directory: &Path, limits: &ControlLimits) -> Result<PolicyFiles, FileError> {
    let refused = |error| FileError::Read { what: "the policies directory", path: directory.into(), error };
    let home = directory.canonicalize().map_err(refused)?;
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&home).map_err(refused)? {
        let name = entry.map_err(refused)?.file_name();
        let path = Path::new(&name);
        let is_policy = matches!(path.extension().and_then(|e| e.to_str()), Some("yaml" | "yml"));
        let is_hidden = name.as_encoded_bytes().starts_with(b".");
        if is_policy && !is_hidden && !home.join(path).is_dir() {
            names.push(name);
        }
    }
    if names.is_empty() {
        return Err(FileError::NoPolicies(directory.into()));
    }
    names.sort();
    let too_many = || FileError::TooMany {
        path: directory.into(),
        max: limits.policy_files_max,
        bytes_max: limits.policy_bytes_max,
    };
    if names.len() > limits.policy_files_max {
        return Err(too_many());
    }
    let (mut files, mut total) = (Vec::new(), 0_usize);
    for name in names {
        let path = home.join(&name);
        let shown = directory.join(&name);
        let real = path.canonicalize().map_err(|error| FileError::Read {
            what: "policy file",
            path: shown.clone(),
            error,
        })?;
        if !real.starts_with(&home) {
            return Err(FileError::LinkOut(shown));
        }
        let bytes = whole_file("policy file", &real, limits.file_bytes_max)?;
        total = total.saturating_add(bytes.len());
        if total > limits.policy_bytes_max {
            return Err(too_many());
        }
        let text = String::from_utf8(bytes).map_err(|_no_text| FileError::Encoding(shown.clone()))?;
        if text.trim().is_empty() {
            return Err(FileError::Blank(shown));
        }
        files.push(SourceFile { name: name.to_string_lossy().into_owned(), text });
    }
    let digest = sha256_of_parts(files.iter().flat_map(|f| [f.name.as_bytes(), f.text.as_bytes()]));
    Ok(PolicyFiles { files, digest })
}

pub(crate) fn credentials(paths: &CredentialPaths, limits: &ControlLimits) -> Result<Credentials, FileError> {
    let svid = whole_file("certificate", &paths.svid, limits.file_bytes_max)?;
    let key = Zeroizing::new(whole_file("private key", &paths.key, limits.file_bytes_max)?);
    let roots = whole_file("trust bundle", &paths.roots, limits.file_bytes_max)?;
    let digest = sha256_of_parts([svid.as_slice(), key.as_slice(), roots.as_slice()]);
    Ok(Credentials { svid, key, roots, digest })
}

impl Credentials {
    /// Checks everything that peers would: key, path to a root, validity, form of the id.
    pub(crate) fn identity(
        &self,
        paths: &CredentialPaths,
        generation: u64,
        now: SystemTime,
    ) -> Result<Identity, CredentialError> {
        let svid = Svid::from_pem(&self.svid, &self.key).map_err(|error| {
            let path = if is_about_key(&error) { &paths.key } else { &paths.svid };
            CredentialError::Svid { path: path.clone(), error }
        })?;
        if svid.id.workload().is_none() {
            return Err(CredentialError::NoWorkload { path: paths.svid.clone(), id: svid.id.to_string() });
        }
        let bundle = TrustBundle::from_pem(svid.id.trust_domain().clone(), &self.roots)
            .map_err(|error| CredentialError::Roots { path: paths.roots.clone(), error })?;
        svid.verify(&bundle, now).map_err(|error| match error {
            SvidError::Expired { .. } | SvidError::NotYetValid { .. } => CredentialError::NotNow {
                path: paths.svid.clone(),
                error: Box::new(error),
                clocks: both_clocks(&svid, now),
            },
            error => CredentialError::Svid { path: paths.svid.clone(), error },
        })?;
        Identity::new(generation, svid, bundle).map_err(CredentialError::Tls)
    }
}

fn is_about_key(error: &SvidError) -> bool {
    matches!(error, SvidError::KeyPem(_) | SvidError::Key | SvidError::KeyMismatch)
}

/// Reads a regular file up to a limit; one byte more is an error and not a cut.
pub(crate) fn whole_file(what: &'static str, path: &Path, max: u64) -> Result<Vec<u8>, FileError> {
    let refused = |error| FileError::Read { what, path: path.into(), error };
    let file = File::open(path).map_err(refused)?;
    let mut bytes = Vec::new();
    file.take(max.saturating_add(1)).read_to_end(&mut bytes).map_err(refused)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length <= max) {
        Ok(bytes)
    } else {
        Err(FileError::TooLong { what, path: path.into(), max })
    }
}
