use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The longest namespace or service account name, in bytes (Kubernetes allows 253 for a service account).
const NAME_BYTES_MAX: usize = 253;

/// Why a text is no namespace or service account name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("a {kind} name cannot be empty")]
    Empty { kind: &'static str },
    #[error("a {kind} name has at most {NAME_BYTES_MAX} bytes, this one has {length}")]
    TooLong { kind: &'static str, length: usize },
    #[error("{character:?} is not allowed in a {kind} name; use letters, digits, '.', '-' and '_'")]
    Character { kind: &'static str, character: char },
    #[error("a {kind} name cannot be '.' or '..'")]
    Dots { kind: &'static str },
}

/// Checks one path segment of a SPIFFE id (SPIFFE-ID standard, section 2.2).
pub(crate) fn check_segment(kind: &'static str, text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty { kind });
    }
    if text.len() > NAME_BYTES_MAX {
        return Err(NameError::TooLong { kind, length: text.len() });
    }
    if matches!(text, "." | "..") {
        return Err(NameError::Dots { kind });
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    match text.chars().find(|c| !allowed(*c)) {
        Some(character) => Err(NameError::Character { kind, character }),
        None => Ok(()),
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $type(Arc<str>);

        impl $type {
            /// Reads a name: letters, digits, `.`, `-`, `_`; 1 to 253 bytes; neither `.` nor `..`.
            pub fn parse(text: &str) -> Result<Self, NameError> {
                check_segment($kind, text)?;
                Ok(Self(text.into()))
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl FromStr for $type {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::parse(text)
            }
        }
    };
}

name!(
    /// A namespace: the team or environment that a workload belongs to.
    Namespace,
    "namespace"
);
name!(
    /// A service account: the identity of a service within its namespace.
    ServiceAccount,
    "service account"
);

impl Namespace {
    /// The namespace of the control plane and, by default, the mesh-wide one.
    pub fn palisade_system() -> Self {
        Self("palisade-system".into())
    }
}

impl ServiceAccount {
    /// The service account of the control plane.
    pub fn control_plane() -> Self {
        Self("control-plane".into())
    }
}
