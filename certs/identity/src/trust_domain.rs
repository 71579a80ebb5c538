use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The longest trust domain name accepted, in bytes (SPIFFE-ID standard, section 2.1).
const TRUST_DOMAIN_BYTES_MAX: usize = 255;

/// A trust domain: lower-case letters, digits, `.`, `-` and `_`, 1 to 255 bytes.
///
/// Compared whole and byte by byte: `corp.example` is no prefix of anything.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrustDomain(Arc<str>);

/// Why a text is no trust domain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustDomainError {
    #[error("a trust domain cannot be empty")]
    Empty,
    #[error("a trust domain has at most {TRUST_DOMAIN_BYTES_MAX} bytes, this one has {0}")]
    TooLong(usize),
    #[error("{0:?} is not allowed in a trust domain; use lower-case letters, digits, '.', '-' and '_'")]
    Character(char),
}

impl TrustDomain {
    /// Reads a trust domain name without scheme, for example `corp.example`.
    pub fn parse(text: &str) -> Result<Self, TrustDomainError> {
        if text.is_empty() {
            return Err(TrustDomainError::Empty);
        }
        if text.len() > TRUST_DOMAIN_BYTES_MAX {
            return Err(TrustDomainError::TooLong(text.len()));
        }
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-' | '_');
        match text.chars().find(|c| !allowed(*c)) {
            Some(c) => Err(TrustDomainError::Character(c)),
            None => Ok(Self(text.into())),
        }
    }

    /// The name, without scheme.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl FromStr for TrustDomain {
    type Err = TrustDomainError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_names_of_the_standard() {
        for text in ["a", "corp.example", "prod-1.corp_example", "1.2"] {
            assert_eq!(TrustDomain::parse(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn refuses_everything_else() {
        let rows = [
            ("", TrustDomainError::Empty),
            ("Corp.example", TrustDomainError::Character('C')),
            ("corp.example:8443", TrustDomainError::Character(':')),
            ("user@corp", TrustDomainError::Character('@')),
            ("corp/x", TrustDomainError::Character('/')),
            ("corp%2e", TrustDomainError::Character('%')),
            ("cörp", TrustDomainError::Character('ö')),
            ("corp\0", TrustDomainError::Character('\0')),
        ];
        for (text, error) in rows {
            assert_eq!(TrustDomain::parse(text).unwrap_err(), error, "{text:?}");
        }
        assert_eq!(TrustDomain::parse(&"a".repeat(256)).unwrap_err(), TrustDomainError::TooLong(256));
    }
}
