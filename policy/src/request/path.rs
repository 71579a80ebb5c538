//! One spelling for a path, before anybody judges it.
//!
//! The normalizations are Istio's (`meshConfig.pathNormalization`); tests/path holds its table. What Istio would
//! leave to two servers to read differently is refused first, unless MeshConfig keeps it.

use std::borrow::Cow;

use crate::kind::mesh_config::{AmbiguousPaths, PathNormalization};

/// Why a path is refused before any policy is asked (400).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    #[error("the path does not start with a slash")]
    NotAbsolute,
    #[error("the path has a part that two servers may read differently")]
    Ambiguous,
    #[error("the path has a malformed escape or a forbidden byte")]
    Malformed,
}

/// Normalizes a path without query. Allocates only when something changes. Escapes are decoded at most once.
pub fn normalize(
    path: &str,
    normalization: PathNormalization,
    ambiguous: AmbiguousPaths,
) -> Result<Cow<'_, str>, PathError> {
    if !path.starts_with('/') {
        return Err(PathError::NotAbsolute);
    }
    let traits = inspect(path)?;
    if ambiguous == AmbiguousPaths::Reject && (traits.ambiguous || !escapes_are_utf8(path)) {
        return Err(PathError::Ambiguous);
    }
    if normalization == PathNormalization::None || !(traits.rewritable || path.contains("//")) {
        return Ok(Cow::Borrowed(path));
    }
    let decode_slashes = normalization == PathNormalization::DecodeAndMergeSlashes;
    let mut normal = remove_dot_segments(&decode_unreserved(path, decode_slashes));
    if matches!(normalization, PathNormalization::MergeSlashes | PathNormalization::DecodeAndMergeSlashes) {
        merge_slashes(&mut normal);
    }
    Ok(if normal == path { Cow::Borrowed(path) } else { Cow::Owned(normal) })
}

/// Whether two servers may read the path differently, whatever MeshConfig says of such paths.
pub fn is_ambiguous(path: &str) -> bool {
    inspect(path).is_ok_and(|traits| traits.ambiguous) || !escapes_are_utf8(path)
}

/// What one look at the bytes tells.
struct Traits {
    ambiguous: bool,
    /// Has an escape, a backslash or a segment that starts with a dot: normalization may change it.
    rewritable: bool,
}

fn inspect(path: &str) -> Result<Traits, PathError> {
    let mut traits = Traits { ambiguous: false, rewritable: false };
    let mut previous = b'/';
    let mut rest = path.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match byte {
            // RFC 3986 knows none of these in a path, raw; `#` would start a fragment, which no request has.
            0..=b' ' | 0x7f..=0xff | b'#' => return Err(PathError::Malformed),
            b'%' => {
                let decoded = escaped_byte(rest).ok_or(PathError::Malformed)?;
                if decoded == 0 {
                    return Err(PathError::Malformed);
                }
                traits.rewritable = true;
                traits.ambiguous |= is_ambiguous_escape(decoded);
            }
            // Path parameters: servlet containers cut them off before routing (istio/istio#27409).
            b';' => traits.ambiguous = true,
            b'\\' => traits.rewritable = true,
            b'.' if matches!(previous, b'/' | b'\\') => traits.rewritable = true,
            _ => {}
        }
        previous = byte;
    }
    Ok(traits)
}

/// The byte of an escape whose `%` was just read.
fn escaped_byte(after_percent: &[u8]) -> Option<u8> {
    let (&[high, low], _) = after_percent.split_first_chunk::<2>()?;
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(high)? << 4 | digit(low)?)
}

/// Escapes of bytes that structure a URI, and of control bytes: decoded by some servers before they route.
fn is_ambiguous_escape(byte: u8) -> bool {
    matches!(byte, b'/' | b'\\' | b';' | b'%' | b'?' | b'#' | 0..=0x1f | 0x7f)
}

/// Whether what the escapes stand for is UTF-8: overlong forms (`%c0%af`) are read as `/` by some servers.
fn escapes_are_utf8(path: &str) -> bool {
    !path.contains('%') || percent_encoding::percent_decode_str(path).decode_utf8().is_ok()
}

/// Decodes unreserved characters (RFC 3986 section 6.2.2.2), turns `\` into `/`, and on demand decodes `%2f` and
/// `%5c` too. Everything else keeps its spelling.
fn decode_unreserved(path: &str, decode_slashes: bool) -> String {
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find(['%', '\\']) {
        let (plain, special) = rest.split_at(at);
        out.push_str(plain);
        if let Some(tail) = special.strip_prefix('\\') {
            out.push('/');
            rest = tail;
            continue;
        }
        let (escape, tail) = special.split_at_checked(3).unwrap_or((special, ""));
        match escaped_byte(escape.as_bytes().get(1..).unwrap_or_default()).map(char::from) {
            Some(c) if c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '~') => out.push(c),
            Some('/' | '\\') if decode_slashes => out.push('/'),
            _ => out.push_str(escape),
        }
        rest = tail;
    }
    out.push_str(rest);
    out
}

/// RFC 3986 section 5.2.4. An empty segment counts as a segment; `..` above the root stays at the root.
fn remove_dot_segments(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let segments = path.strip_prefix('/').unwrap_or(path).split('/');
    let mut ends_open = false;
    for segment in segments {
        ends_open = matches!(segment, "." | "..");
        match segment {
            "." => {}
            ".." => out.truncate(out.rfind('/').unwrap_or(0)),
            _ => {
                out.push('/');
                out.push_str(segment);
            }
        }
    }
    // `/a/.` and `/a/b/..` name the folder `/a/`.
    if ends_open || out.is_empty() {
        out.push('/');
    }
    out
}

fn merge_slashes(path: &mut String) {
    let mut previous = '\0';
    path.retain(|c| {
        let keep = !(c == '/' && previous == '/');
        previous = c;
        keep
    });
}
