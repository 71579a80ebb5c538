//! The text of a join token: made by the control plane, shown to the operator once, read by the proxy.
//!
//! `palisade-join.v1.<id>.<secret>.<root-sha256>`: id is 16 lower-case hex digits, secret 43 characters of base64url
//! without padding (256 bits), root-sha256 64 lower-case hex digits: SHA-256 of the root certificate's DER, by which
//! a proxy that has no other file knows the control plane.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

const PREFIX: &str = "palisade-join";
const FORMAT: &str = "v1";
/// The longest text looked at; a token has 145 bytes.
const TEXT_BYTES_MAX: usize = 256;

/// The public part of a token: names it in lists, logs and `palisade token revoke`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JoinTokenId([u8; 8]);

/// A join token. `Display` gives the whole text, secret included; `Debug` does not.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    pub id: JoinTokenId,
    /// SHA-256 of the DER of the root certificate that the control plane's certificate leads to.
    pub root_sha256: [u8; 32],
    secret: Zeroizing<[u8; 32]>,
}

/// Why a text is no join token. Never repeats the text: it may hold a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinTokenError {
    #[error("a join token starts with \"palisade-join.\"; `palisade token create` prints one")]
    Prefix,
    #[error("this join token has a format this version does not know; only {FORMAT:?} is known")]
    Format,
    #[error("a join token has five parts separated by '.'; it was perhaps cut when it was copied")]
    Parts,
    #[error("the id of the join token is not 16 lower-case hex digits")]
    Id,
    #[error(
        "the secret of the join token is not 43 characters of base64url; it was perhaps cut when it was copied"
    )]
    Secret,
    #[error(
        "the root hash of the join token is not 64 lower-case hex digits; it was perhaps cut when it was copied"
    )]
    RootHash,
}

impl JoinTokenId {
    pub fn new(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    /// Reads 16 lower-case hex digits.
    pub fn parse(text: &str) -> Result<Self, JoinTokenError> {
        lower_hex::<8>(text).map(Self).ok_or(JoinTokenError::Id)
    }
}

impl fmt::Display for JoinTokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl FromStr for JoinTokenId {
    type Err = JoinTokenError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl JoinToken {
    /// A token of fresh random `id` and `secret`.
    pub fn new(id: JoinTokenId, secret: [u8; 32], root_sha256: [u8; 32]) -> Self {
        Self { id, root_sha256, secret: Zeroizing::new(secret) }
    }

    /// Reads a token; white space around it is ignored, since files end in a line feed.
    pub fn parse(text: &str) -> Result<Self, JoinTokenError> {
        let text = text.trim_ascii();
        if text.len() > TEXT_BYTES_MAX {
            return Err(JoinTokenError::Parts);
        }
        let mut parts = text.split('.');
        if parts.next() != Some(PREFIX) {
            return Err(JoinTokenError::Prefix);
        }
        let mut part = || parts.next().ok_or(JoinTokenError::Parts);
        let (format, id, secret, root) = (part()?, part()?, part()?, part()?);
        if format != FORMAT {
            return Err(JoinTokenError::Format);
        }
        if parts.next().is_some() {
            return Err(JoinTokenError::Parts);
        }
        Ok(Self {
            id: JoinTokenId::parse(id)?,
            secret: read_secret(secret).ok_or(JoinTokenError::Secret)?,
            root_sha256: lower_hex(root).ok_or(JoinTokenError::RootHash)?,
        })
    }

    /// The 256 secret bits. The control plane keeps SHA-256 of them only.
    pub fn secret(&self) -> &[u8; 32] {
        &self.secret
    }
}

fn read_secret(text: &str) -> Option<Zeroizing<[u8; 32]>> {
    let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(text).ok()?);
    <[u8; 32]>::try_from(bytes.as_slice()).ok().map(Zeroizing::new)
}

/// One spelling only: upper-case digits are refused, so that equal tokens are equal texts.
fn lower_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.bytes().any(|b| b.is_ascii_uppercase()) {
        return None;
    }
    let mut bytes = [0; N];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    Some(bytes)
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secret = Zeroizing::new(URL_SAFE_NO_PAD.encode(self.secret.as_slice()));
        write!(f, "{PREFIX}.{FORMAT}.{}.{}.{}", self.id, secret.as_str(), hex::encode(self.root_sha256))
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken")
            .field("id", &self.id)
            .field("root_sha256", &hex::encode(self.root_sha256))
            .finish_non_exhaustive()
    }
}

impl FromStr for JoinToken {
    type Err = JoinTokenError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> JoinToken {
        JoinToken::new(JoinTokenId::new([0xab; 8]), [0x5a; 32], [0xcd; 32])
    }

    #[test]
    fn reads_what_it_writes() {
        let text = token().to_string();
        assert_eq!(text.len(), "palisade-join.v1.".len() + 16 + 1 + 43 + 1 + 64);
        assert_eq!(JoinToken::parse(&text).unwrap(), token());
        assert_eq!(JoinToken::parse(&format!(" {text}\r\n")).unwrap(), token());
    }

    #[test]
    fn debug_does_not_show_the_secret() {
        let secret = URL_SAFE_NO_PAD.encode([0x5a; 32]);
        let debug = format!("{:?}", token());
        assert!(debug.contains(&"cd".repeat(32)) && !debug.contains(&secret), "{debug}");
    }

    #[test]
    fn refuses_near_misses() {
        let good = token().to_string();
        let rows = [
            (String::new(), JoinTokenError::Prefix),
            ("palisade".into(), JoinTokenError::Prefix),
            (good.replace("palisade-join", "Palisade-Join"), JoinTokenError::Prefix),
            (good.replace(".v1.", ".v2."), JoinTokenError::Format),
            ("palisade-join.v1".into(), JoinTokenError::Parts),
            (good.rsplit_once('.').unwrap().0.into(), JoinTokenError::Parts),
            (format!("{good}.x"), JoinTokenError::Parts),
            (format!("{good}{}", "0".repeat(300)), JoinTokenError::Parts),
            (good.replace("abab", "ABAB"), JoinTokenError::Id),
            (good.replacen("ab", "", 1), JoinTokenError::Id),
            (good.replace("Wlpa", "Wl+a"), JoinTokenError::Secret),
            (good.replacen("Wlpa", "", 1), JoinTokenError::Secret),
            (good[..good.len() - 1].into(), JoinTokenError::RootHash),
            (good.replace("cdcd", "CDCD"), JoinTokenError::RootHash),
            (format!("{}zz", &good[..good.len() - 2]), JoinTokenError::RootHash),
        ];
        for (text, error) in rows {
            assert_eq!(JoinToken::parse(&text).unwrap_err(), error, "{text}");
        }
    }
}
