//! The data directory: keys, store and a lock, readable by one user only.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use palisade_identity::TrustDomain;
use serde::{Deserialize, Serialize};

const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// Anybody but the owner.
const OTHERS: u32 = 0o077;
/// Larger than every file we read whole; a key or certificate has a few KiB.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
const FORMAT: u32 = 1;

const LOCK: &str = "lock";
const MANIFEST: &str = "palisade.json";
pub(crate) const STORE: &str = "store.sqlite3";

/// Why a data directory is not used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    #[error("{path}: cannot {action}")]
    Io {
        path: PathBuf,
        action: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("{path} is not a {expected}; point --data-dir at a directory made by `palisade control-plane`")]
    WrongType { path: PathBuf, expected: &'static str },
    #[error(
        "{path} can be read or written by others (mode {mode:04o}); it holds private keys: \
         run `chmod go= {path}` and find out who has read it"
    )]
    Permissions { path: PathBuf, mode: u32 },
    #[error("{path} belongs to user {owner}, this process runs as user {user}; run it as the owner")]
    Owner { path: PathBuf, owner: u32, user: u32 },
    #[error("{path} is in use by another control plane; stop that one, or use another --data-dir")]
    InUse { path: PathBuf },
    #[error(
        "{path} was made for trust domain {found}, not {wanted}; use --trust-domain {found}, or another --data-dir"
    )]
    TrustDomain { path: PathBuf, found: String, wanted: TrustDomain },
    #[error("{path} cannot be read ({problem}); restore it from a backup of the whole data directory")]
    Damaged { path: PathBuf, problem: String },
    #[error(
        "{path} is missing though this data directory was in use before; restore it from a backup of the whole \
         data directory (a new one would know no policy and no workload)"
    )]
    Missing { path: PathBuf },
}

/// Written last on the first start: from then on nothing may be missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    format: u32,
    trust_domain: String,
    /// The same id is in the store: another store put in its place is noticed.
    pub(crate) store_id: String,
}

/// An opened, checked and locked data directory. The lock is let go when this is dropped or the process ends.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Opens the directory, and makes it when there is none.
    pub(crate) fn open(path: &Path) -> Result<Self, DataDirError> {
        make_directory(path)?;
        check_directory(path)?;
        let lock = lock(&path.join(LOCK), path)?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The manifest; none: the first start has not come to its end yet.
    pub(crate) fn manifest(&self, wanted: &TrustDomain) -> Result<Option<Manifest>, DataDirError> {
        let path = self.join(MANIFEST);
        let Some(bytes) = self.read(MANIFEST)? else { return Ok(None) };
        let manifest: Manifest = serde_json::from_slice(&bytes)
            .map_err(|e| DataDirError::Damaged { path: path.clone(), problem: e.to_string() })?;
        if manifest.format != FORMAT {
            let problem = format!("format {}, this version reads {FORMAT}", manifest.format);
            return Err(DataDirError::Damaged { path, problem });
        }
        if manifest.trust_domain != wanted.as_str() {
            let (path, wanted) = (self.path.clone(), wanted.clone());
            return Err(DataDirError::TrustDomain { path, found: manifest.trust_domain, wanted });
        }
        Ok(Some(manifest))
    }

    pub(crate) fn write_manifest(&self, domain: &TrustDomain, store_id: &str) -> Result<(), DataDirError> {
        let manifest =
            Manifest { format: FORMAT, trust_domain: domain.to_string(), store_id: store_id.to_owned() };
        let text = serde_json::to_vec_pretty(&manifest)
            .map_err(|e| DataDirError::Damaged { path: self.join(MANIFEST), problem: e.to_string() })?;
        self.write(MANIFEST, &text)
    }

    /// Makes a directory inside, or checks the one that is there.
    pub(crate) fn subdirectory(&self, name: &str) -> Result<PathBuf, DataDirError> {
        let path = self.join(name);
        make_directory(&path)?;
        check_directory(&path)?;
        Ok(path)
    }

    /// A file's content after a check of its permissions; none where there is no such file.
    pub(crate) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, DataDirError> {
        let path = self.join(name);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(failed(&path, "open it")(e)),
        };
        let metadata = file.metadata().map_err(failed(&path, "read its permissions"))?;
        check_access(&path, &metadata)?;
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(failed(&path, "read it"))?;
        Ok(Some(bytes))
    }

    /// Replaces a file whole: after a crash there is the old one or the new one.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), DataDirError> {
        let path = self.join(name);
        let temporary = self.join(&format!("{name}.new"));
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(FILE_MODE);
        let mut file = options.open(&temporary).map_err(failed(&temporary, "create it"))?;
        let written = file.write_all(bytes).and_then(|()| file.sync_all());
        written.map_err(failed(&temporary, "write it"))?;
        fs::rename(&temporary, &path).map_err(failed(&path, "replace it"))?;
        sync_parent(&path)
    }

    /// Whether the file is there. Its permissions are checked.
    pub(crate) fn has_file(&self, name: &str) -> Result<bool, DataDirError> {
        let path = self.join(name);
        match fs::symlink_metadata(&path) {
            Ok(m) if !m.is_file() => Err(DataDirError::WrongType { path, expected: "file" }),
            Ok(m) => check_access(&path, &m).map(|()| true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(failed(&path, "read its permissions")(e)),
        }
    }

    /// An empty file that only we can read, for whoever opens it later by name.
    pub(crate) fn create_file(&self, name: &str) -> Result<(), DataDirError> {
        let path = self.join(name);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(FILE_MODE);
        options.open(&path).map(drop).map_err(failed(&path, "create it"))
    }
}

fn failed(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> DataDirError {
    let path = path.to_owned();
    move |source| DataDirError::Io { path, action, source }
}

fn make_directory(path: &Path) -> Result<(), DataDirError> {
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(DIRECTORY_MODE);
    builder.create(path).map_err(failed(path, "create the directory"))
}

fn check_directory(path: &Path) -> Result<(), DataDirError> {
    let metadata = fs::metadata(path).map_err(failed(path, "read its permissions"))?;
    if !metadata.is_dir() {
        return Err(DataDirError::WrongType { path: path.to_owned(), expected: "directory" });
    }
    check_access(path, &metadata)
}

fn check_access(path: &Path, metadata: &fs::Metadata) -> Result<(), DataDirError> {
    let user = rustix::process::geteuid().as_raw();
    if metadata.uid() != user {
        return Err(DataDirError::Owner { path: path.to_owned(), owner: metadata.uid(), user });
    }
    if metadata.mode() & OTHERS != 0 {
        return Err(DataDirError::Permissions { path: path.to_owned(), mode: metadata.mode() & 0o7777 });
    }
    Ok(())
}

fn lock(path: &Path, directory: &Path) -> Result<File, DataDirError> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(FILE_MODE);
    let file = options.open(path).map_err(failed(path, "open it"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(DataDirError::InUse { path: directory.to_owned() }),
        Err(TryLockError::Error(e)) => Err(failed(path, "lock it")(e)),
    }
}

/// A rename is durable only once the directory is.
fn sync_parent(path: &Path) -> Result<(), DataDirError> {
    let Some(parent) = path.parent() else { return Ok(()) };
    File::open(parent).and_then(|d| d.sync_all()).map_err(failed(parent, "write the directory"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn domain() -> TrustDomain {
        TrustDomain::parse("corp.example").unwrap()
    }

    #[test]
    fn makes_a_directory_and_files_for_one_user_only() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/b");
        let dir = DataDir::open(&path).unwrap();
        dir.write("secret", b"x").unwrap();
        dir.create_file("empty").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        for name in ["secret", "empty", "lock"] {
            assert_eq!(fs::metadata(path.join(name)).unwrap().mode() & 0o777, 0o600, "{name}");
        }
        assert_eq!(dir.read("secret").unwrap().unwrap(), b"x");
        assert!(dir.read("absent").unwrap().is_none());
    }

    #[test]
    fn refuses_a_directory_or_file_open_to_group_or_world() {
        let root = tempfile::tempdir().unwrap();
        for mode in [0o750, 0o705, 0o701, 0o770, 0o777] {
            set_mode(root.path(), mode);
            let error = DataDir::open(root.path()).unwrap_err();
            assert!(matches!(error, DataDirError::Permissions { mode: m, .. } if m == mode), "{error}");
            assert!(error.to_string().contains("chmod go="), "{error}");
        }
        set_mode(root.path(), 0o700);
        let dir = DataDir::open(root.path()).unwrap();
        dir.write("key", b"x").unwrap();
        set_mode(&root.path().join("key"), 0o640);
        assert!(matches!(dir.read("key"), Err(DataDirError::Permissions { .. })));
        assert!(matches!(dir.has_file("key"), Err(DataDirError::Permissions { .. })));
    }

    #[test]
    fn two_control_planes_never_share_a_directory() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("data");
        let first = DataDir::open(&path).unwrap();
        assert!(matches!(DataDir::open(&path), Err(DataDirError::InUse { .. })));
        drop(first);
        DataDir::open(&path).unwrap();
    }

    #[test]
    fn refuses_another_trust_domain_and_a_damaged_manifest() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("data");
        let dir = DataDir::open(&path).unwrap();
        assert!(dir.manifest(&domain()).unwrap().is_none());
        dir.write_manifest(&domain(), "id").unwrap();
        assert_eq!(dir.manifest(&domain()).unwrap().unwrap().store_id, "id");

        let other = TrustDomain::parse("corp.example.com").unwrap();
        assert!(matches!(dir.manifest(&other), Err(DataDirError::TrustDomain { .. })));
        dir.write(MANIFEST, b"{\"format\":1,").unwrap();
        assert!(matches!(dir.manifest(&domain()), Err(DataDirError::Damaged { .. })));
        dir.write(MANIFEST, br#"{"format":9,"trust_domain":"corp.example","store_id":"x"}"#).unwrap();
        assert!(matches!(dir.manifest(&domain()), Err(DataDirError::Damaged { .. })));
    }

    #[test]
    fn a_path_that_is_a_file_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("file");
        fs::write(&path, b"").unwrap();
        assert!(DataDir::open(&path).is_err());
    }
}
