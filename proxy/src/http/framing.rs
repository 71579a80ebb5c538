//! A stricter look at HTTP/1.1 framing than hyper takes, on the bytes themselves.
//!
//! hyper answers a request with both Transfer-Encoding and Content-Length by dropping the latter, takes bare LF, leading
//! empty lines and repeated equal lengths. Another server before or behind us may read the same bytes differently
//! (RFC 9112 section 11.2). This follows every request's framing and, at the first ambiguity, hands hyper a NUL in place
//! of the rest: hyper answers 400 and closes. Within a body the read fails instead.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Longest line kept while it is incomplete. hyper refuses heads of this size itself, with 431.
const LINE_BYTES_MAX: usize = 64 * 1024;
/// Longest chunk-size line, extensions included: one-byte chunks with long ones are an amplifier (CVE-2023-39326).
const CHUNK_LINE_BYTES_MAX: usize = 256;
/// Digits of a content length: 10^18 bytes is more than anybody sends, and does not overflow.
const LENGTH_DIGITS_MAX: usize = 18;
/// Hexadecimal digits of a chunk size: under 2^60.
const CHUNK_DIGITS_MAX: usize = 15;

/// What hyper gets in place of an ambiguous head: invalid everywhere in it. The empty line makes hyper parse a head
/// that came in parts, which it does not before it has seen the end.
const POISON: &[u8] = b"\0\r\n\r\n";

/// Where in a request the next byte is.
#[derive(Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    RequestLine,
    Header,
    Body(u64),
    ChunkSize,
    ChunkData(u64),
    ChunkEnd,
    Trailer,
    /// Behind a request to switch to WebSocket: another protocol, or a connection that we close.
    Opaque,
    Broken,
}

/// The bytes are ambiguous.
#[derive(Debug, PartialEq, Eq)]
struct Ambiguous;

#[derive(Debug, Default)]
struct Framing {
    state: State,
    /// The start of a line whose end has not come yet.
    line: Vec<u8>,
    is_cut: bool,
    head: Head,
    /// Where it became ambiguous: hyper has the head already, and would take poison for a part of a chunk extension.
    broke_in_body: bool,
}

#[derive(Debug, Default)]
struct Head {
    http_1_0: bool,
    length: Option<u64>,
    chunked: bool,
    /// Lines of `Upgrade`, and whether the only one says WebSocket.
    upgrades: u32,
    websocket: bool,
    connection_upgrade: bool,
}

impl Framing {
    /// Follows the bytes. On ambiguity: how many of them may still be passed on.
    fn follow(&mut self, bytes: &[u8]) -> Result<(), usize> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let at = bytes.len().saturating_sub(rest.len());
            let used = match &mut self.state {
                State::Opaque => return Ok(()),
                State::Broken => return Err(at),
                State::Body(left) | State::ChunkData(left) => {
                    let used = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                    *left = left.saturating_sub(u64::try_from(used).unwrap_or(u64::MAX));
                    if *left == 0 {
                        self.state = if matches!(self.state, State::Body(_)) {
                            State::RequestLine
                        } else {
                            State::ChunkEnd
                        };
                    }
                    used
                }
                _ => self.take_line(rest).map_err(|Ambiguous| {
                    self.broke_in_body = !self.in_head();
                    self.state = State::Broken;
                    at
                })?,
            };
            rest = rest.get(used..).unwrap_or_default();
        }
        Ok(())
    }

    /// Takes up to the end of a line, and the meaning of it when it is whole.
    fn take_line(&mut self, rest: &[u8]) -> Result<usize, Ambiguous> {
        let Some(end) = rest.iter().position(|b| *b == b'\n') else {
            self.keep(rest)?;
            return Ok(rest.len());
        };
        let (part, _) = rest.split_at(end);
        if self.line.is_empty() {
            self.line_ended(part)?;
        } else {
            self.keep(part)?;
            if self.is_cut {
                return Err(Ambiguous);
            }
            let mut line = std::mem::take(&mut self.line);
            self.line_ended(&line)?;
            line.clear();
            self.line = line;
        }
        Ok(end.saturating_add(1))
    }

    /// Keeps a part of a line. What comes of a head beyond the limit goes on to hyper unseen, which refuses it before
    /// the line ends; no line that was cut is ever read.
    fn keep(&mut self, part: &[u8]) -> Result<(), Ambiguous> {
        let room = LINE_BYTES_MAX.saturating_sub(self.line.len());
        if part.len() <= room {
            self.line.extend_from_slice(part);
        } else if self.in_head() {
            self.is_cut = true;
        } else {
            return Err(Ambiguous);
        }
        Ok(())
    }

    fn in_head(&self) -> bool {
        matches!(self.state, State::RequestLine | State::Header)
    }

    fn line_ended(&mut self, line: &[u8]) -> Result<(), Ambiguous> {
        // Bare LF, and CR anywhere else (RFC 9112 section 2.2).
        let line = line.strip_suffix(b"\r").ok_or(Ambiguous)?;
        if line.contains(&b'\r') {
            return Err(Ambiguous);
        }
        self.state = match self.state {
            // A fragment (`#`) is never sent (RFC 9112 section 3.2); the http crate would cut it off in silence.
            State::RequestLine if line.is_empty() || line.contains(&b'#') => return Err(Ambiguous),
            State::RequestLine => {
                self.head = Head { http_1_0: line.ends_with(b"HTTP/1.0"), ..Head::default() };
                State::Header
            }
            State::Header if line.is_empty() => self.head.body()?,
            State::Header => {
                self.head.header(line)?;
                State::Header
            }
            State::ChunkSize => match chunk_size(line)? {
                0 => State::Trailer,
                size => State::ChunkData(size),
            },
            State::ChunkEnd if line.is_empty() => State::ChunkSize,
            State::Trailer if line.is_empty() => State::RequestLine,
            State::Trailer => {
                field(line)?;
                State::Trailer
            }
            _ => return Err(Ambiguous),
        };
        Ok(())
    }
}

impl Head {
    fn header(&mut self, line: &[u8]) -> Result<(), Ambiguous> {
        let (name, value) = field(line)?;
        if name.eq_ignore_ascii_case(b"content-length") {
            if self.length.is_some() {
                return Err(Ambiguous);
            }
            self.length = Some(number(value, LENGTH_DIGITS_MAX, 10)?);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if self.chunked || self.http_1_0 || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Ambiguous);
            }
            self.chunked = true;
        } else if name.eq_ignore_ascii_case(b"upgrade") {
            self.upgrades = self.upgrades.saturating_add(1);
            self.websocket = self.upgrades == 1 && value.eq_ignore_ascii_case(b"websocket");
        } else if name.eq_ignore_ascii_case(b"connection") {
            let mut tokens = value.split(|b| *b == b',');
            self.connection_upgrade |=
                tokens.any(|token| token.trim_ascii().eq_ignore_ascii_case(b"upgrade"));
        }
        Ok(())
    }

    /// What follows the head (RFC 9112 section 6.3).
    fn body(&self) -> Result<State, Ambiguous> {
        match (self.chunked, self.length) {
            (true, Some(_)) => Err(Ambiguous),
            _ if self.websocket && self.connection_upgrade && !self.http_1_0 => {
                // A handshake has no body (RFC 6455 section 4.1), so what follows is of one kind.
                if self.chunked || self.length.is_some_and(|length| length > 0) {
                    return Err(Ambiguous);
                }
                Ok(State::Opaque)
            }
            (true, None) => Ok(State::ChunkSize),
            (false, Some(length)) if length > 0 => Ok(State::Body(length)),
            (false, _) => Ok(State::RequestLine),
        }
    }
}

/// Name and value of a field line. An obsolete fold starts with a blank; a blank before the colon hides a name
/// (RFC 9112 sections 5.1, 5.2).
fn field(line: &[u8]) -> Result<(&[u8], &[u8]), Ambiguous> {
    let colon = line.iter().position(|b| *b == b':').ok_or(Ambiguous)?;
    let (name, value) = line.split_at(colon);
    if name.is_empty() || name.iter().any(|b| matches!(b, b' ' | b'\t')) {
        return Err(Ambiguous);
    }
    Ok((name, value.get(1..).unwrap_or_default().trim_ascii()))
}

fn chunk_size(line: &[u8]) -> Result<u64, Ambiguous> {
    if line.len() > CHUNK_LINE_BYTES_MAX {
        return Err(Ambiguous);
    }
    let digits = line.split(|b| *b == b';').next().unwrap_or_default();
    number(digits.trim_ascii_end(), CHUNK_DIGITS_MAX, 16)
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

/// A connection whose reads are looked at.
#[derive(Debug)]
pub(crate) struct Guarded<T> {
    io: T,
    framing: Framing,
    /// What is left of the poison, once it is given.
    poison: Option<&'static [u8]>,
}

impl<T> Guarded<T> {
    pub(crate) fn new(io: T) -> Self {
        Self { io, framing: Framing::default(), poison: None }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Guarded<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.poison.is_none() {
            let before = buf.filled().len();
            ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
            let read = buf.filled().get(before..).unwrap_or_default();
            match self.framing.follow(read) {
                Ok(()) => return Poll::Ready(Ok(())),
                Err(good) => {
                    let good = before.saturating_add(good);
                    buf.set_filled(good);
                    self.poison = Some(if self.framing.broke_in_body { &[] } else { POISON });
                    if self.framing.broke_in_body && good > before {
                        return Poll::Ready(Ok(()));
                    }
                }
            }
        }
        if self.framing.broke_in_body {
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        // Nothing is read any more: behind the poison comes the end.
        if let Some(poison) = self.poison {
            let (now, later) = poison.split_at(poison.len().min(buf.remaining()));
            buf.put_slice(now);
            self.poison = Some(later);
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Guarded<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whole, and byte by byte: the verdict must not depend on how bytes arrive.
    fn is_clear(text: &str) -> bool {
        let whole = Framing::default().follow(text.as_bytes()).is_ok();
        let mut framing = Framing::default();
        let single = text.as_bytes().iter().all(|byte| framing.follow(std::slice::from_ref(byte)).is_ok());
        assert_eq!(whole, single, "{text:?}");
        whole
    }

    #[test]
    fn takes_what_every_server_reads_alike() {
        for text in [
            "GET / HTTP/1.1\r\nhost: a\r\n\r\nGET /b HTTP/1.1\r\nhost: a\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\na\nb\rcPOST / HTTP/1.1\r\ncontent-length: 0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n5;a=b\r\na\nb\rc\r\n0\r\nx: y\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.0\r\n\r\n",
            "GET / HTTP/1.1\r\nupgrade: websocket\r\nconnection: keep-alive, Upgrade\r\n\r\n\0\n\n anything",
        ] {
            assert!(is_clear(text), "{text:?}");
        }
    }

    #[test]
    fn refuses_what_two_servers_may_read_differently() {
        for lines in [
            "transfer-encoding: chunked\r\ncontent-length: 5",
            "content-length: 5\r\ntransfer-encoding: chunked",
            "content-length: 5\r\ncontent-length: 5",
            "content-length: 5, 5",
            "content-length: +5",
            "content-length: -1",
            "content-length: 0x5",
            "content-length: ",
            "content-length: 18446744073709551616",
            "transfer-encoding: xchunked",
            "transfer-encoding: chunked, identity",
            "transfer-encoding: gzip, chunked",
            "transfer-encoding: chunked\r\ntransfer-encoding: chunked",
            "transfer-encoding : chunked",
            "transfer-encoding\t: chunked",
            "x: a\r\n folded",
            "x: a\nb: c",
            "x: a\rb: c",
            "no colon",
            ": no name",
        ] {
            assert!(!is_clear(&format!("POST / HTTP/1.1\r\n{lines}\r\n\r\n")), "{lines:?}");
        }
        for text in [
            "\r\nGET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\n\n",
            "POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n5\nabcde\r\n",
            "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabcdeX\r\n",
            "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabcde\n",
            "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n",
            "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n-1\r\n",
            "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n5;a\n\r\n",
            "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx: y\n\r\n",
            "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx : y\r\n\r\n",
            "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n folded\r\n\r\n",
            "GET /a#b HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nupgrade: websocket\r\n\r\nGET / HTTP/1.1\n\n",
            // Two wishes: only one reader would have seen the second.
            "GET / HTTP/1.1\r\nupgrade: h2c\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\nGET / HTTP/1.1\n\n",
            "GET / HTTP/1.1\r\nupgrade: websocket\r\nconnection: upgrade\r\ncontent-length: 1\r\n\r\na",
            "GET / HTTP/1.1\r\nupgrade: websocket\r\nconnection: upgrade\r\ntransfer-encoding: chunked\r\n\r\n0\r\n",
        ] {
            assert!(!is_clear(text), "{text:?}");
        }
        let long =
            format!("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1;{}\r\na\r\n", "x".repeat(4096));
        assert!(!is_clear(&long));
    }
}
