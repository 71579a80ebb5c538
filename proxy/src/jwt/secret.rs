//! The secret of HS256, from a file on our own host.

use std::io::{self, Read as _};
use std::path::Path;

use palisade_policy::request::json;
use zeroize::Zeroizing;

use super::keyring::sha256;
use super::verify::Secret;

/// A secret is a few dozen bytes; a file that is larger is another file.
const SECRET_BYTES_MAX: u64 = 4096;
/// A secret of 32 random bytes has some 30 different ones, in hex 16 at most; fewer than this is a pattern.
const DIFFERENT_BYTES_MIN: usize = 8;

/// Why a secret is not used.
#[derive(Debug, thiserror::Error)]
pub(super) enum SecretError {
    #[error("it cannot be read")]
    Unreadable(#[source] io::Error),
    #[error("it has fewer than 32 bytes")]
    Short,
    #[error("it is a pattern: fewer than 8 different bytes")]
    Weak,
    #[error("it is a key or a certificate, which others may know; a secret is random bytes")]
    Key,
}

impl SecretError {
    /// Machine-readable, stable: docs/reference/tokens.md lists them.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => "secret_unreadable",
            Self::Short => "secret_short",
            Self::Weak => "secret_weak",
            Self::Key => "secret_key",
        }
    }
}

/// The secret and the digest of what it was read from.
pub(super) fn read(path: &Path) -> Result<(Secret, [u8; 32]), SecretError> {
    let bytes = content(path).map_err(SecretError::Unreadable)?;
    if is_key(&bytes) {
        return Err(SecretError::Key);
    }
    let secret = Secret::new(&bytes).ok_or(SecretError::Short)?;
    let mut seen = [false; 256];
    for byte in bytes.iter() {
        if let Some(seen) = seen.get_mut(usize::from(*byte)) {
            *seen = true;
        }
    }
    if seen.iter().filter(|seen| **seen).count() < DIFFERENT_BYTES_MIN {
        return Err(SecretError::Weak);
    }
    Ok((secret, sha256(&bytes)))
}

fn content(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    // Opening a pipe would wait for a writer, and with it the whole control thread.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
    }
    let mut bytes = Zeroizing::new(Vec::new());
    std::fs::File::open(path)?.take(SECRET_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > SECRET_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is larger than 4 KiB"));
    }
    // Editors and `echo` leave one line end.
    if bytes.ends_with(b"\n") {
        bytes.pop();
        if bytes.ends_with(b"\r") {
            bytes.pop();
        }
    }
    Ok(bytes)
}

/// PEM, or a JWK: whoever put it there took one kind of key for the other.
fn is_key(bytes: &[u8]) -> bool {
    let has_member = |name: &str| json::object(bytes).is_ok_and(|object| object.contains_key(name));
    bytes.trim_ascii_start().starts_with(b"-----BEGIN ") || has_member("kty") || has_member("keys")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_secret_is_refused_by_code() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let rows = [
            ("0123456789abcdef0123456789abcdef", ""),
            ("0123456789abcdef0123456789abcdef\r\n", ""),
            ("0123456789abcdef0123456789abcde\n", "secret_short"),
            ("", "secret_short"),
            ("00000000000000000000000000000000", "secret_weak"),
            ("abcdefgabcdefgabcdefgabcdefgabcdefg", "secret_weak"),
            ("-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8A\n", "secret_key"),
            (r#"{"kty":"RSA","n":"0123456789abcdef","e":"AQAB"}"#, "secret_key"),
            (r#"{"keys":[{"kty":"oct","k":"AAAA"}]}"#, "secret_key"),
        ];
        for (content, expected) in rows {
            std::fs::write(&path, content).unwrap();
            assert_eq!(read(&path).err().map_or("", |error| error.code()), expected, "{content}");
        }
        std::fs::write(&path, "x".repeat(4097)).unwrap();
        assert_eq!(read(&path).unwrap_err().code(), "secret_unreadable");
        assert_eq!(read(folder.path()).unwrap_err().code(), "secret_unreadable");
        assert_eq!(read(&folder.path().join("absent")).unwrap_err().code(), "secret_unreadable");
    }
}
