//! JSON lines without an intermediate tree.

/// Writes one object. Keys are ours and need no escaping.
pub(super) struct Object<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

impl<'a> Object<'a> {
    pub(super) fn open(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, first: true }
    }

    pub(super) fn close(self) {
        self.out.extend_from_slice(b"}\n");
    }

    fn key(&mut self, key: &str) {
        if !self.first {
            self.out.push(b',');
        }
        self.first = false;
        self.out.push(b'"');
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    pub(super) fn text(&mut self, key: &str, value: &str) {
        self.key(key);
        self.out.push(b'"');
        escape(self.out, value);
        self.out.push(b'"');
    }

    pub(super) fn optional(&mut self, key: &str, value: Option<&str>) {
        match value {
            Some(value) => self.text(key, value),
            None => self.null(key),
        }
    }

    /// Bytes from outside that may be no UTF-8.
    pub(super) fn bytes(&mut self, key: &str, value: Option<&[u8]>) {
        match value {
            Some(value) => self.text(key, &String::from_utf8_lossy(value)),
            None => self.null(key),
        }
    }

    pub(super) fn number(&mut self, key: &str, value: u64) {
        self.key(key);
        self.out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }

    pub(super) fn null(&mut self, key: &str) {
        self.key(key);
        self.out.extend_from_slice(b"null");
    }
}

/// RFC 8259 section 7, and besides it DEL, the C1 controls and the line separators: a terminal or a line-based
/// reader acts on them (RUSTSEC-2025-0055).
fn escape(out: &mut Vec<u8>, text: &str) {
    if text.bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'"' && b != b'\\') {
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
        object.text("a", value);
        object.number("n", 7);
        object.null("z");
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
