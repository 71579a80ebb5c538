//! Times in records, whose dates are worked out once a second.

use std::cell::Cell;
use std::time::SystemTime;

use jiff::Timestamp;

/// `2026-11-30T01:52:03`.
const SECOND_BYTES: usize = 19;

/// The last second that was written, as text: many records fall into one.
#[derive(Debug)]
pub(super) struct Second(Cell<Option<(u64, [u8; SECOND_BYTES])>>);

impl Second {
    pub(super) fn new() -> Self {
        Self(Cell::new(None))
    }

    /// Writes RFC 3339 with milliseconds; nothing for a clock before 1970 or beyond year 9999.
    pub(super) fn write(&self, at: SystemTime, out: &mut Vec<u8>) {
        let Ok(since) = at.duration_since(SystemTime::UNIX_EPOCH) else { return };
        let text = match self.0.get() {
            Some((second, text)) if second == since.as_secs() => text,
            _ => {
                let Some(text) = text(at) else { return };
                self.0.set(Some((since.as_secs(), text)));
                text
            }
        };
        out.extend_from_slice(&text);
        let millis = since.subsec_millis();
        let digit = |place: u32| b'0'.saturating_add(u8::try_from(millis / place % 10).unwrap_or(0));
        out.extend_from_slice(&[b'.', digit(100), digit(10), digit(1), b'Z']);
    }
}

fn text(at: SystemTime) -> Option<[u8; SECOND_BYTES]> {
    let text = Timestamp::try_from(at).ok()?.to_string();
    text.as_bytes().first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_those_of_rfc_3339_whatever_second_was_written_before() {
        let second = Second::new();
        let write = |millis| {
            let mut out = Vec::new();
            second.write(SystemTime::UNIX_EPOCH + Duration::from_millis(millis), &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(write(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(write(1_764_467_523_007), "2025-11-30T01:52:03.007Z");
        assert_eq!(write(1_764_467_523_990), "2025-11-30T01:52:03.990Z");
        assert_eq!(write(1_764_467_524_000), "2025-11-30T01:52:04.000Z");
        assert_eq!(write(999), "1970-01-01T00:00:00.999Z");
        assert_eq!(write(253_402_300_800_000), "", "year 10000");
        let mut out = Vec::new();
        second.write(SystemTime::UNIX_EPOCH - Duration::from_secs(1), &mut out);
        assert!(out.is_empty());
    }
}
