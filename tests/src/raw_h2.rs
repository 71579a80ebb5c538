//! HTTP/2 frame by frame, for what client libraries refuse to send.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use crate::wait::DEADLINE;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// The last part of what a server does to a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Status(u16),
    /// RST_STREAM with this code.
    Reset(u32),
    /// GOAWAY with this code.
    GoAway(u32),
    Closed,
}

impl Outcome {
    /// Not served, and not for want of a route either.
    pub fn is_refusal(self) -> bool {
        matches!(self, Self::Status(400 | 405 | 431) | Self::Reset(1..) | Self::GoAway(1..) | Self::Closed)
    }
}

/// One frame (RFC 9113 section 4.1).
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// HEADERS, whole.
pub fn headers(stream: u32, end_stream: bool, fields: &[(&[u8], &[u8])]) -> Vec<u8> {
    let flags = END_HEADERS | if end_stream { END_STREAM } else { 0 };
    frame(HEADERS, flags, stream, &block(fields))
}

pub fn data(stream: u32, end_stream: bool, bytes: &[u8]) -> Vec<u8> {
    frame(DATA, u8::from(end_stream), stream, bytes)
}

/// A field block of literals without indexing (RFC 7541 section 6.2.2): any bytes at all.
pub fn block(fields: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        string(&mut out, name);
        string(&mut out, value);
    }
    out
}

fn string(out: &mut Vec<u8>, text: &[u8]) {
    let length = text.len();
    if length < 127 {
        out.push(length as u8);
    } else {
        out.push(127);
        let mut rest = length - 127;
        while rest >= 128 {
            out.push((rest % 128) as u8 | 128);
            rest /= 128;
        }
        out.push(rest as u8);
    }
    out.extend_from_slice(text);
}

/// A client connection that sends whatever it is told to.
#[derive(Debug)]
pub struct RawH2<S> {
    stream: S,
}

impl<S: AsyncRead + AsyncWrite + Unpin> RawH2<S> {
    /// Preface and empty SETTINGS.
    pub async fn open(mut stream: S) -> Self {
        let hello = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &frame(SETTINGS, 0, 0, &[])].concat();
        stream.write_all(&hello).await.unwrap();
        Self { stream }
    }

    /// A connection that was closed meanwhile is no error.
    pub async fn send(&mut self, bytes: &[u8]) {
        let _closed_early = self.stream.write_all(bytes).await;
        let _closed_early = self.stream.flush().await;
    }

    /// Whether the connection takes all of it. What comes meanwhile is thrown away, so that neither side waits for
    /// the other.
    pub async fn try_send(&mut self, bytes: &[u8]) -> bool {
        let (mut reader, mut writer) = tokio::io::split(&mut self.stream);
        let writing = async { writer.write_all(bytes).await.is_ok() && writer.flush().await.is_ok() };
        tokio::pin!(writing);
        let mut thrown_away = vec![0; 16 * 1024];
        loop {
            tokio::select! {
                biased;
                sent = &mut writing => return sent,
                count = reader.read(&mut thrown_away) => {
                    if !matches!(count, Ok(1..)) {
                        return false;
                    }
                }
            }
        }
    }

    /// Waits for the end of a response.
    pub async fn is_answered(&mut self, stream: u32) -> bool {
        while let Some((kind, flags, id, _)) = self.next().await {
            if id == stream && matches!(kind, HEADERS | DATA) && flags & END_STREAM != 0 {
                return true;
            }
            if kind == GOAWAY || (id == stream && kind == RST_STREAM) {
                return false;
            }
        }
        false
    }

    /// The next frame: kind, flags, stream, payload. `None`: closed.
    pub async fn next(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        let mut head = [0; 9];
        timeout(DEADLINE, self.stream.read_exact(&mut head)).await.expect("a frame in time").ok()?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let mut payload = vec![0; length];
        timeout(DEADLINE, self.stream.read_exact(&mut payload)).await.expect("a frame in time").ok()?;
        let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Some((head[3], head[4], id, payload))
    }

    /// Waits for what becomes of a stream.
    pub async fn outcome(&mut self, stream: u32) -> Outcome {
        while let Some((kind, _, id, payload)) = self.next().await {
            let code = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
            match kind {
                HEADERS if id == stream => return Outcome::Status(status(&payload)),
                RST_STREAM if id == stream => return Outcome::Reset(code(0)),
                GOAWAY => return Outcome::GoAway(code(4)),
                _ => {}
            }
        }
        Outcome::Closed
    }

    /// Reads until nothing comes for a moment; what the frames were.
    pub async fn quiet(&mut self) -> Vec<(u8, u8, u32, Vec<u8>)> {
        let mut seen = Vec::new();
        while let Ok(Some(frame)) = timeout(Duration::from_millis(300), self.next()).await {
            seen.push(frame);
        }
        seen
    }
}

/// `:status`, which comes first. Of the server's first answer on a connection only: later ones may refer to it.
fn status(block: &[u8]) -> u16 {
    match block[0] {
        // Indexed (RFC 7541 appendix A).
        indexed @ 0x88..=0x8e => [200, 204, 206, 304, 400, 404, 500][usize::from(indexed - 0x88)],
        // A literal, name 8, value in Huffman code (appendix B) or plain.
        0x48 | 0x08 if block[1] & 0x80 != 0 => huffman_digits(&block[2..2 + usize::from(block[1] & 0x7f)]),
        0x48 | 0x08 => std::str::from_utf8(&block[2..5]).unwrap().parse().unwrap(),
        other => panic!("unknown start of a header block: {other:#x}"),
    }
}

/// Three digits: `0`, `1` and `2` have 5 bits, the others 6.
fn huffman_digits(bytes: &[u8]) -> u16 {
    let mut bits = bytes.iter().flat_map(|byte| (0..8).rev().map(move |at| u16::from(byte >> at & 1)));
    let mut number = 0;
    for _ in 0..3 {
        let five = bits.by_ref().take(5).fold(0, |sum, bit| sum << 1 | bit);
        let digit = if five < 3 { five } else { ((five << 1) | bits.next().unwrap()) - 0b01_1001 + 3 };
        number = number * 10 + digit;
    }
    number
}
