//! Lines within a message.

use super::{Ambiguous, State};

/// Longest chunk-size line, extensions included: one-byte chunks with long ones are an amplifier (CVE-2023-39326).
const CHUNK_LINE_BYTES_MAX: usize = 256;
/// Digits of a content length: 10^18 bytes is more than anybody sends, and does not overflow.
const LENGTH_DIGITS_MAX: usize = 18;
/// Hexadecimal digits of a chunk size: under 2^60.
const CHUNK_DIGITS_MAX: usize = 15;

/// What a head says of the length of its body.
#[derive(Debug, Default)]
pub(super) struct Length {
    bytes: Option<u64>,
    chunked: bool,
}

impl Length {
    /// Takes one of the two headers that frame a body; others are none of its business.
    pub(super) fn header(&mut self, name: &[u8], value: &[u8], http_1_0: bool) -> Result<(), Ambiguous> {
        if name.eq_ignore_ascii_case(b"content-length") {
            if self.bytes.is_some() {
                return Err(Ambiguous);
            }
            self.bytes = Some(content_length(value)?);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if self.chunked || http_1_0 || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Ambiguous);
            }
            self.chunked = true;
        }
        Ok(())
    }

    /// `None`: nothing was said. `Some(None)`: chunks.
    pub(super) fn told(&self) -> Result<Option<Option<u64>>, Ambiguous> {
        match (self.chunked, self.bytes) {
            (true, Some(_)) => Err(Ambiguous),
            (true, None) => Ok(Some(None)),
            (false, bytes) => Ok(bytes.map(Some)),
        }
    }
}

/// The state in a body of `bytes`, or of chunks. `empty`: where it is over at once.
pub(super) fn within(bytes: Option<u64>, empty: State) -> State {
    match bytes {
        None => State::ChunkSize,
        Some(0) => empty,
        Some(bytes) => State::Body(bytes),
    }
}

/// Name and value of a field line. An obsolete fold starts with a blank; a blank before the colon hides a name
/// (RFC 9112 sections 5.1, 5.2).
pub(super) fn field(line: &[u8]) -> Result<(&[u8], &[u8]), Ambiguous> {
    let colon = line.iter().position(|b| *b == b':').ok_or(Ambiguous)?;
    let (name, value) = line.split_at(colon);
    if name.is_empty() || name.iter().any(|b| matches!(b, b' ' | b'\t')) {
        return Err(Ambiguous);
    }
    Ok((name, value.get(1..).unwrap_or_default().trim_ascii()))
}

pub(super) fn chunk_size(line: &[u8]) -> Result<u64, Ambiguous> {
    if line.len() > CHUNK_LINE_BYTES_MAX {
        return Err(Ambiguous);
    }
    let digits = line.split(|b| *b == b';').next().unwrap_or_default();
    number(digits.trim_ascii_end(), CHUNK_DIGITS_MAX, 16)
}

/// A length that every reader takes for the same number. A zero in front is grammatical (RFC 9110 section 8.6), and octal
/// to some.
pub(crate) fn content_length(value: &[u8]) -> Result<u64, Ambiguous> {
    if value.len() > 1 && value.starts_with(b"0") {
        return Err(Ambiguous);
    }
    number(value, LENGTH_DIGITS_MAX, 10)
}

/// Digits only: no sign, no blank, no prefix.
fn number(text: &[u8], digits_max: usize, radix: u32) -> Result<u64, Ambiguous> {
    let digits = |b: &u8| char::from(*b).is_digit(radix);
    if text.is_empty() || text.len() > digits_max || !text.iter().all(digits) {
        return Err(Ambiguous);
    }
    let text = std::str::from_utf8(text).map_err(|_never| Ambiguous)?;
    u64::from_str_radix(text, radix).map_err(|_never| Ambiguous)
}
