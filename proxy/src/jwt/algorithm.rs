//! The algorithms that are served. There is no `none` to be asked for.

use aws_lc_rs::signature::{
    self, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters,
};

/// `alg` of a token (RFC 7518 section 3.1, RFC 8037). A shared secret and a public key are different variants: where
/// one is expected, the other cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Hs256,
    Public(PublicAlgorithm),
}

/// Algorithms whose verifying key is public.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PublicAlgorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    EdDsa,
}

use PublicAlgorithm::{EdDsa, Es256, Es384, Ps256, Ps384, Ps512, Rs256, Rs384, Rs512};

impl Algorithm {
    /// Exactly as spelled in the RFCs: names are case-sensitive.
    pub(super) fn parse(name: &str) -> Option<Self> {
        if name == "HS256" { Some(Self::Hs256) } else { PublicAlgorithm::parse(name).map(Self::Public) }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Public(algorithm) => algorithm.name(),
        }
    }
}

impl PublicAlgorithm {
    const ALL: [Self; 9] = [Rs256, Rs384, Rs512, Ps256, Ps384, Ps512, Es256, Es384, EdDsa];

    pub(super) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    fn name(self) -> &'static str {
        match self {
            Rs256 => "RS256",
            Rs384 => "RS384",
            Rs512 => "RS512",
            Ps256 => "PS256",
            Ps384 => "PS384",
            Ps512 => "PS512",
            Es256 => "ES256",
            Es384 => "ES384",
            EdDsa => "EdDSA",
        }
    }
}

/// What an RSA key may verify. Each entry fixes padding and digest.
pub(super) const RSA: [(PublicAlgorithm, &RsaParameters); 6] = [
    (Rs256, &RSA_PKCS1_2048_8192_SHA256),
    (Rs384, &RSA_PKCS1_2048_8192_SHA384),
    (Rs512, &RSA_PKCS1_2048_8192_SHA512),
    (Ps256, &RSA_PSS_2048_8192_SHA256),
    (Ps384, &RSA_PSS_2048_8192_SHA384),
    (Ps512, &RSA_PSS_2048_8192_SHA512),
];

/// Curve name, algorithm, bytes of one coordinate, and the primitive (signatures of fixed length, not DER).
pub(super) const CURVES: [(&str, PublicAlgorithm, usize, &signature::EcdsaVerificationAlgorithm); 2] = [
    ("P-256", Es256, 32, &signature::ECDSA_P256_SHA256_FIXED),
    ("P-384", Es384, 48, &signature::ECDSA_P384_SHA384_FIXED),
];
