//! Signatures. Keys decide what may be asked of them; the token only picks.

use aws_lc_rs::hmac;

use super::algorithm::{Algorithm, PublicAlgorithm};
use super::fault::TokenFault;
use super::jwk::{PublicKeys, VerifyingKey};
use super::jws::Jws;

/// Keys that a token without `kid` is tried with. 4: more would let one request buy many verifications.
const TRIES_MAX: usize = 4;
/// The shortest secret of HS256, in bytes (RFC 7518 section 3.2).
pub(crate) const SECRET_BYTES_MIN: usize = 32;

/// A shared secret; HS256 only.
pub(crate) struct Secret(Box<hmac::Key>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Secret {
    /// `None`: shorter than 32 bytes.
    pub(crate) fn new(bytes: &[u8]) -> Option<Self> {
        (bytes.len() >= SECRET_BYTES_MIN).then(|| Self(Box::new(hmac::Key::new(hmac::HMAC_SHA256, bytes))))
    }
}

/// What an issuer's tokens are verified with: public keys or one secret, never both.
#[derive(Debug)]
pub(crate) enum KeySet {
    Public(PublicKeys),
    Secret(Secret),
}

impl KeySet {
    /// Verifies the signature, and nothing else. An `UnknownKey` may be worth a look at the issuer's newest keys.
    pub(crate) fn verify(&self, jws: &Jws<'_>) -> Result<(), TokenFault> {
        match (self, jws.algorithm) {
            (Self::Public(keys), Algorithm::Public(algorithm)) => keys.verify(jws, algorithm),
            (Self::Secret(secret), Algorithm::Hs256) => {
                hmac::verify(&secret.0, jws.signed, &jws.signature).map_err(|_differs| TokenFault::Signature)
            }
            (Self::Public(_), Algorithm::Hs256) | (Self::Secret(_), Algorithm::Public(_)) => {
                Err(TokenFault::KeyMismatch)
            }
        }
    }
}

impl PublicKeys {
    fn verify(&self, jws: &Jws<'_>, algorithm: PublicAlgorithm) -> Result<(), TokenFault> {
        match &jws.key_id {
            Some(id) => {
                let named = self.keys.iter().find(|key| key.id.as_ref() == Some(id));
                named.ok_or(TokenFault::UnknownKey)?.verify(jws, algorithm)
            }
            None => self.try_all(jws, algorithm),
        }
    }

    fn try_all(&self, jws: &Jws<'_>, algorithm: PublicAlgorithm) -> Result<(), TokenFault> {
        let fitting = || self.keys.iter().filter(|key| key.serves(algorithm));
        match fitting().count() {
            0 => Err(TokenFault::UnknownKey),
            1..=TRIES_MAX if fitting().any(|key| key.verify(jws, algorithm).is_ok()) => Ok(()),
            1..=TRIES_MAX => Err(TokenFault::Signature),
            _ => Err(TokenFault::KeyAmbiguous),
        }
    }
}

impl VerifyingKey {
    fn serves(&self, algorithm: PublicAlgorithm) -> bool {
        self.verifiers.iter().any(|(served, _)| *served == algorithm)
    }

    fn verify(&self, jws: &Jws<'_>, algorithm: PublicAlgorithm) -> Result<(), TokenFault> {
        let verifier = self.verifiers.iter().find(|(served, _)| *served == algorithm);
        let (_, key) = verifier.ok_or(TokenFault::KeyMismatch)?;
        key.verify_sig(jws.signed, &jws.signature).map_err(|_invalid| TokenFault::Signature)
    }
}
