//! Why a token is not believed. The caller hears one of the three errors of RFC 6750; the record has the code.

/// A token, or the place it came in, that is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    #[error("longer than the limit")]
    TooLarge,
    #[error("not three parts")]
    NotCompact,
    #[error("encrypted (JWE)")]
    Encrypted,
    #[error("not base64url without padding, in its one spelling")]
    Base64,
    #[error("the header is no JSON object of the expected members")]
    Header,
    #[error("the header demands an extension")]
    Critical,
    #[error("of a type that is not for access")]
    Kind,
    #[error("the header brings its own key")]
    EmbeddedKey,
    #[error("an algorithm that is not served")]
    Algorithm,
    #[error("an algorithm that the issuer's policy does not allow")]
    AlgorithmNotAllowed,
    #[error("no key of that id")]
    UnknownKey,
    #[error("the key is not for that algorithm")]
    KeyMismatch,
    #[error("no key id, and too many keys to try")]
    KeyAmbiguous,
    #[error("the signature does not fit")]
    Signature,
    #[error("there are no keys of the issuer")]
    NoKeys,
    #[error("more than one token")]
    Several,
    #[error("the place of the token is malformed")]
    Location,
    #[error("an issuer that nobody configured")]
    UnknownIssuer,
}

impl TokenFault {
    /// Machine-readable, stable: docs/reference/tokens.md lists them.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::TooLarge => "token_too_large",
            Self::NotCompact => "token_not_compact",
            Self::Encrypted => "token_encrypted",
            Self::Base64 => "token_base64",
            Self::Header => "token_header",
            Self::Critical => "token_critical",
            Self::Kind => "token_type",
            Self::EmbeddedKey => "token_embedded_key",
            Self::Algorithm => "token_algorithm",
            Self::AlgorithmNotAllowed => "token_algorithm_not_allowed",
            Self::UnknownKey => "token_key_unknown",
            Self::KeyMismatch => "token_key_mismatch",
            Self::KeyAmbiguous => "token_key_ambiguous",
            Self::Signature => "token_signature",
            Self::NoKeys => "token_no_keys",
            Self::Several => "token_several",
            Self::Location => "token_location",
            Self::UnknownIssuer => "token_issuer_unknown",
        }
    }

    /// Whether the request was put together wrongly, rather than the token (RFC 6750 section 3.1).
    pub(crate) fn is_about_request(self) -> bool {
        matches!(self, Self::Several | Self::Location)
    }
}
