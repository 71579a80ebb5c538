//! JSON lines without an intermediate tree.

use std::io::Write as _;
use std::net::SocketAddr;

/// A key of ours as it stands in a line, with what separates it from its value and from the pair before.
macro_rules! key {
    ($key:literal) => {
        $crate::telemetry::json::Key(concat!(",\"", $key, "\":"))
    };
}
pub(super) use key;

/// Made by `key!`; needs no escaping.
#[derive(Clone, Copy)]
pub(super) struct Key(pub(super) &'static str);

/// Writes one object.
pub(super) struct Object<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

impl<'a> Object<'a> {
    pub(super) fn open(out: &'a mut Vec<u8>) -> Self {
        Self { out, first: true }
    }

    pub(super) fn close(self) {
        self.out.extend_from_slice(if self.first { b"{}\n" } else { b"}\n" });
    }

    fn key(&mut self, key: Key) {
        let start = self.out.len();
        self.out.extend_from_slice(key.0.as_bytes());
        if self.first {
            self.first = false;
            if let Some(comma) = self.out.get_mut(start) {
                *comma = b'{';
            }
        }
    }

    pub(super) fn text(&mut self, key: Key, value: &str) {
        self.key(key);
        self.out.push(b'"');
        escape(self.out, value);
        self.out.push(b'"');
    }

    /// Text of ours that needs no escaping.
    pub(super) fn known(&mut self, key: Key, value: &str) {
        self.key(key);
        self.out.push(b'"');
        self.out.extend_from_slice(value.as_bytes());
        self.out.push(b'"');
    }

    /// An address, with its port.
    pub(super) fn address(&mut self, key: Key, value: SocketAddr) {
        let SocketAddr::V4(value) = value else { return self.plain(key, value) };
        self.key(key);
        let [a, b, c, d] = value.ip().octets();
        let mut before = b'"';
        for part in [a, b, c, d] {
            self.out.push(before);
            self.out.extend_from_slice(itoa::Buffer::new().format(part).as_bytes());
            before = b'.';
        }
        self.out.push(b':');
        self.out.extend_from_slice(itoa::Buffer::new().format(value.port()).as_bytes());
        self.out.push(b'"');
    }

    pub(super) fn optional(&mut self, key: Key, value: Option<&str>) {
        match value {
            Some(value) => self.text(key, value),
            None => self.null(key),
        }
    }

    /// Bytes from outside that may be no UTF-8.
    pub(super) fn bytes(&mut self, key: Key, value: Option<&[u8]>) {
        match value {
            Some(value) => self.text(key, &String::from_utf8_lossy(value)),
            None => self.null(key),
        }
    }

    /// Two texts with a slash between them.
    pub(super) fn path(&mut self, key: Key, first: &str, second: &str) {
        self.key(key);
        self.out.push(b'"');
        escape(self.out, first);
        self.out.push(b'/');
        escape(self.out, second);
        self.out.push(b'"');
    }

    /// Text that needs no escaping, by who writes it.
    pub(super) fn written(&mut self, key: Key, write: impl FnOnce(&mut Vec<u8>)) {
        self.key(key);
        self.out.push(b'"');
        write(self.out);
        self.out.push(b'"');
    }

    /// Text that needs no escaping, by what it displays.
    pub(super) fn plain(&mut self, key: Key, value: impl std::fmt::Display) {
        self.key(key);
        let _infallible = write!(self.out, "\"{value}\"");
    }

    pub(super) fn number(&mut self, key: Key, value: u64) {
        self.key(key);
        self.out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }

    pub(super) fn truth(&mut self, key: Key) {
        self.key(key);
        self.out.extend_from_slice(b"true");
    }

    pub(super) fn null(&mut self, key: Key) {
        self.key(key);
        self.out.extend_from_slice(b"null");
    }
}

/// RFC 8259 section 7, and besides it DEL, the C1 controls and the line separators: a terminal or a line-based
/// reader acts on them (RUSTSEC-2025-0055).
fn escape(out: &mut Vec<u8>, text: &str) {
    // Without an early end, so that the compiler makes it 16 bytes at a time.
    if text.bytes().fold(true, |plain, b| plain & (0x20..0x7f).contains(&b) & (b != b'"') & (b != b'\\')) {
        return out.extend_from_slice(text.as_bytes());
    }
    let mut utf8 = [0; 4];
    for c in text.chars() {
        match c {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}') => {
                out.extend_from_slice(format!("\\u{:04x}", u32::from(c)).as_bytes());
            }
            c => out.extend_from_slice(c.encode_utf8(&mut utf8).as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(value: &str) -> String {
        let mut out = Vec::new();
        let mut object = Object::open(&mut out);
        object.text(key!("a"), value);
        object.number(key!("n"), 7);
        object.null(key!("z"));
        object.close();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn writes_one_line_that_json_readers_take() {
        assert_eq!(line("plain"), "{\"a\":\"plain\",\"n\":7,\"z\":null}\n");
    }

    #[test]
    fn text_from_outside_can_forge_neither_a_line_nor_a_terminal_command() {
        let evil = "a\"b\\c\r\n{\"decision\":\"allowed\"}\u{1b}[31m\u{7f}\u{9b}\0\u{2028}\u{202e}é";
        let line = line(evil);
        assert_eq!(line.matches('\n').count(), 1);
        assert!(line.trim_end().chars().all(|c| !c.is_control() && c != '\u{2028}' && c != '\u{202e}'));
        let read: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(read["a"], evil);
    }
}
