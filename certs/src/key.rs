//! Key pairs of ours, and the strength of keys of others.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use rustls_pki_types::PrivatePkcs8KeyDer;
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_PKCS1_RSAENCRYPTION, OID_SIG_ED25519,
};
use x509_parser::public_key::{PublicKey, RSAPublicKey};
use x509_parser::x509::SubjectPublicKeyInfo;
use zeroize::Zeroizing;

use crate::limits::{RSA_BITS_MAX, RSA_BITS_MIN};
use crate::pem::{self, PemError};

/// Why a key pair could not be made, read or used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("the system gives no random bytes, or the key could not be made or used")]
    Crypto,
    #[error("the key is no ECDSA P-256 key in PKCS#8")]
    Format,
    #[error("the key cannot be read")]
    Pem(#[source] PemError),
}

/// Why a public key is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WeakKey {
    #[error(
        "its kind is not accepted; use ECDSA P-256, ECDSA P-384, Ed25519 or RSA of at least {RSA_BITS_MIN} bits"
    )]
    Kind,
    #[error("RSA keys have {RSA_BITS_MIN} to {RSA_BITS_MAX} bits, this one has {0}")]
    RsaBits(usize),
    #[error("the RSA exponent is below 65537 or even")]
    RsaExponent,
}

/// An ECDSA P-256 key pair. Its PKCS#8 bytes are wiped when dropped; aws-lc wipes its own copy.
pub(crate) struct P256Key {
    pair: EcdsaKeyPair,
    pkcs8: Zeroizing<Vec<u8>>,
}

impl P256Key {
    pub(crate) fn generate() -> Result<Self, KeyError> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map_err(|_| KeyError::Crypto)?;
        let document = pair.to_pkcs8v1().map_err(|_| KeyError::Crypto)?;
        let pkcs8 = Zeroizing::new(document.as_ref().to_vec());
        Ok(Self { pair, pkcs8 })
    }

    pub(crate) fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der).map_err(|_| KeyError::Format)?;
        Ok(Self { pair, pkcs8: Zeroizing::new(der.to_vec()) })
    }

    pub(crate) fn from_pem(text: &[u8]) -> Result<Self, KeyError> {
        let key = Zeroizing::new(pem::private_key(text).map_err(KeyError::Pem)?);
        Self::from_pkcs8(key.secret_der())
    }

    pub(crate) fn to_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(pem::section("PRIVATE KEY", &self.pkcs8))
    }

    pub(crate) fn pkcs8(&self) -> PrivatePkcs8KeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.pkcs8.to_vec())
    }

    /// The public key as a certificate carries it: the point, uncompressed.
    pub(crate) fn public_point(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }
}

impl rcgen::PublicKeyData for P256Key {
    fn der_bytes(&self) -> &[u8] {
        self.public_point()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl rcgen::SigningKey for P256Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signature =
            self.pair.sign(&SystemRandom::new(), message).map_err(|_| rcgen::Error::RingUnspecified)?;
        Ok(signature.as_ref().to_vec())
    }
}

/// Accepts ECDSA on P-256 and P-384, Ed25519, and RSA of a fit size.
pub(crate) fn check_public_key(info: &SubjectPublicKeyInfo<'_>) -> Result<(), WeakKey> {
    let algorithm = &info.algorithm.algorithm;
    if *algorithm == OID_SIG_ED25519 {
        return Ok(());
    }
    if *algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY {
        // Only named curves: explicit parameters let a caller bring a curve of its own (CVE-2020-0601).
        let curve = info.algorithm.parameters.as_ref().and_then(|any| any.as_oid().ok());
        return match curve {
            Some(curve) if curve == OID_EC_P256 || curve == OID_NIST_EC_P384 => Ok(()),
            _ => Err(WeakKey::Kind),
        };
    }
    if *algorithm == OID_PKCS1_RSAENCRYPTION {
        return match info.parsed() {
            Ok(PublicKey::RSA(rsa)) => check_rsa(&rsa),
            _ => Err(WeakKey::Kind),
        };
    }
    Err(WeakKey::Kind)
}

fn check_rsa(key: &RSAPublicKey<'_>) -> Result<(), WeakKey> {
    let significant = key.modulus.iter().skip_while(|byte| **byte == 0);
    let bytes = significant.clone().count();
    let unused = significant.clone().next().map_or(0, |byte| byte.leading_zeros());
    let bits = bytes.saturating_mul(8).saturating_sub(usize::try_from(unused).unwrap_or_default());
    if !(RSA_BITS_MIN..=RSA_BITS_MAX).contains(&bits) {
        return Err(WeakKey::RsaBits(bits));
    }
    match key.try_exponent() {
        Ok(exponent) if exponent >= 65537 && exponent % 2 == 1 => Ok(()),
        _ => Err(WeakKey::RsaExponent),
    }
}
