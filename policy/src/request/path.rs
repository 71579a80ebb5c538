//! One spelling for a path, before anybody judges it.

use std::borrow::Cow;

use crate::kind::mesh_config::{AmbiguousPaths, PathNormalization};

/// Why a path is refused before any policy is asked (400).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    #[error("the path does not start with a slash")]
    NotAbsolute,
    #[error("the path has an escape that two servers may read differently")]
    Ambiguous,
    #[error("the path has a malformed escape or a forbidden byte")]
    Malformed,
}

/// Normalizes a path without query. Allocates only when something changes.
pub fn normalize(
    path: &str,
    normalization: PathNormalization,
    ambiguous: AmbiguousPaths,
) -> Result<Cow<'_, str>, PathError> {
    let _ = (normalization, ambiguous);
    if path.starts_with('/') { Ok(Cow::Borrowed(path)) } else { Err(PathError::NotAbsolute) }
}
