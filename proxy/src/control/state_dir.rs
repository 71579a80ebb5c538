//! What outlives a restart: membership (with the private key) and the last good snapshot, so that a sidecar starts
//! while the control plane is away.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;

use super::member::Member;
use crate::identity::unix_seconds;
use crate::run::RunError;
use crate::settings::control::ControlLimits;

const MEMBER: &str = "member.json";
const SNAPSHOT: &str = "snapshot.bin";
const LOCK: &str = "lock";
/// First bytes of a snapshot file: name and format.
const MAGIC: &[u8; 16] = b"palisade-snap-1\n";

/// A snapshot as it was heard. The digest is checked by whoever uses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeptSnapshot {
    pub(super) version: u64,
    pub(super) digest: [u8; 32],
    pub(super) body: Bytes,
}

/// A directory of our own, 0700, files 0600, each replaced whole.
#[derive(Clone, Debug)]
pub(super) struct StateDir {
    path: PathBuf,
    snapshot_bytes_max: u64,
    /// Held through each write: two that overlap would take each other's neighbour file.
    writer: Arc<Mutex<Writer>>,
}

#[derive(Debug)]
struct Writer {
    /// Locked as long as this process lives.
    _lock: File,
    /// After eviction nothing is written any more, not even what was under way.
    forgotten: bool,
}

impl StateDir {
    /// Makes the directory, or takes one that nobody else can look into.
    pub(super) fn open(path: &Path, limits: &ControlLimits) -> Result<Self, RunError> {
        let refused =
            |error| RunError::Path { what: "the state directory cannot be used:", path: path.into(), error };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(refused)?;
        let mode = fs::metadata(path).map_err(refused)?.permissions().mode();
        if mode & 0o077 != 0 {
            let text = format!("others may enter it (mode {:03o}); run chmod 700 on it", mode & 0o777);
            return Err(refused(io::Error::new(io::ErrorKind::PermissionDenied, text)));
        }
        let snapshot_bytes_max = u64::try_from(limits.message_bytes_max).unwrap_or(u64::MAX);
        let writer = Writer { _lock: lock(path).map_err(refused)?, forgotten: false };
        Ok(Self { path: path.into(), snapshot_bytes_max, writer: Arc::new(Mutex::new(writer)) })
    }

    /// `None`: there is none, or it is damaged and was moved aside.
    pub(super) fn member(&self) -> Option<Member> {
        let bytes = self.read(MEMBER)?;
        let bytes = zeroize::Zeroizing::new(bytes);
        match Member::from_bytes(&bytes).and_then(|member| member.parts().map(|_usable| member)) {
            Ok(member) => Some(member),
            Err(problem) => {
                self.set_aside(MEMBER, &problem);
                None
            }
        }
    }

    /// `None`: there is none, or it is damaged and was moved aside.
    pub(super) fn snapshot(&self) -> Option<KeptSnapshot> {
        let bytes = self.read(SNAPSHOT)?;
        let kept = parse_snapshot(&bytes);
        if kept.is_none() {
            self.set_aside(SNAPSHOT, "it is cut off or not ours");
        }
        kept
    }

    pub(super) fn keep_member(&self, member: &Member) {
        self.replace(MEMBER, &[&member.to_bytes()]);
    }

    pub(super) fn keep_snapshot(&self, snapshot: &KeptSnapshot) {
        let version = snapshot.version.to_be_bytes();
        self.replace(SNAPSHOT, &[MAGIC, &version, &snapshot.digest, &snapshot.body]);
    }

    /// After eviction nothing is left to start from.
    pub(super) fn forget(&self) {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        writer.forgotten = true;
        for name in [MEMBER, SNAPSHOT] {
            let path = self.path.join(name);
            if let Err(error) = fs::remove_file(&path)
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::error!(path = %path.display(), %error, "kept state cannot be removed; remove it by hand");
            }
        }
    }

    /// Moves a file out of the way under a name that says so; nothing is lost.
    pub(super) fn set_aside_snapshot(&self, problem: &str) {
        self.set_aside(SNAPSHOT, problem);
    }

    fn read(&self, name: &str) -> Option<Vec<u8>> {
        let path = self.path.join(name);
        let reading = || -> io::Result<Vec<u8>> {
            let mut bytes = Vec::new();
            // One byte more than allowed, so that a longer file shows.
            File::open(&path)?.take(self.snapshot_bytes_max.saturating_add(1024)).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        match reading() {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                self.set_aside(name, &error.to_string());
                None
            }
        }
    }

    fn set_aside(&self, name: &str, problem: &str) {
        let path = self.path.join(name);
        let stamp = unix_seconds(SystemTime::now());
        let aside = self.path.join(format!("{name}.damaged-{stamp}"));
        let moved = fs::rename(&path, &aside);
        tracing::warn!(
            path = %path.display(), aside = %aside.display(), problem, moved = moved.is_ok(),
            "kept state cannot be used and was moved aside; going on without it"
        );
    }

    /// A failure is reported and not fatal: what is in memory goes on working.
    fn replace(&self, name: &str, parts: &[&[u8]]) {
        let path = self.path.join(name);
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if writer.forgotten {
            return;
        }
        let writing = || -> io::Result<()> {
            let neighbour = self.path.join(format!("{name}.new"));
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&neighbour)?;
            for part in parts {
                file.write_all(part)?;
            }
            file.sync_all()?;
            fs::rename(&neighbour, &path)?;
            File::open(&self.path)?.sync_all()
        };
        if let Err(error) = writing() {
            tracing::error!(
                path = %path.display(), %error,
                "state cannot be kept; a restart while the control plane is away would not work"
            );
        }
    }
}

/// Two proxies with one identity would replace each other on the stream for ever.
fn lock(directory: &Path) -> io::Result<File> {
    let path = directory.join(LOCK);
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)?;
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => {
            io::Error::other("another proxy is using it; give each proxy a --state-dir of its own")
        }
        TryLockError::Error(error) => error,
    })?;
    Ok(file)
}

fn parse_snapshot(bytes: &[u8]) -> Option<KeptSnapshot> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let (version, rest) = rest.split_first_chunk::<8>()?;
    let (digest, body) = rest.split_first_chunk::<32>()?;
    Some(KeptSnapshot {
        version: u64::from_be_bytes(*version),
        digest: *digest,
        body: Bytes::copy_from_slice(body),
    })
}
