//! A stricter look at HTTP/1.1 framing than hyper takes, on the bytes themselves.
//!
//! hyper answers a request with both Transfer-Encoding and Content-Length by dropping the latter, takes bare LF, leading
//! empty lines and repeated equal lengths; in responses too. Another server before or behind us may read the same bytes
//! differently (RFC 9112 section 11.2). This follows the framing of every message that is read. At the first ambiguity of
//! a request's head hyper gets a NUL in place of the rest, so that it answers 400 and closes; within a body, and in
//! responses, the read fails.

mod fields;
mod guarded;
mod request;
mod response;
#[cfg(test)]
mod tests;

pub(crate) use fields::content_length;
use fields::{chunk_size, field};
pub(crate) use guarded::Guarded;
pub(crate) use response::Turn;

/// Longest line kept while it is incomplete. hyper refuses heads of this size itself, with 431.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// Where in a message the next byte is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum State {
    StartLine,
    Header,
    Body(u64),
    ChunkSize,
    ChunkData(u64),
    ChunkEnd,
    Trailer,
    /// Behind a switch to another protocol, or in a body that the end of the connection ends.
    Opaque,
    /// Nobody was asked anything: no byte may come.
    Silent,
    Broken,
}

/// The bytes are ambiguous.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ambiguous;

/// What requests and responses differ in.
pub(crate) trait Message: Default {
    /// What hyper gets in place of an ambiguous head; `None`: the read fails.
    const POISON: Option<&'static [u8]>;

    /// The state before the first message.
    fn initial() -> State;

    /// The state behind a message.
    fn next() -> State;

    /// Whether a message is expected where none was: asked when bytes come.
    fn asked(&mut self) -> bool {
        false
    }

    /// Begins a head.
    fn start(&mut self, line: &[u8]) -> Result<(), Ambiguous>;

    fn header(&mut self, name: &[u8], value: &[u8]) -> Result<(), Ambiguous>;

    /// What follows the head (RFC 9112 section 6.3).
    fn body(&mut self) -> Result<State, Ambiguous>;
}

#[derive(Debug)]
pub(crate) struct Framing<M> {
    state: State,
    /// The start of a line whose end has not come yet.
    line: Vec<u8>,
    is_cut: bool,
    message: M,
    /// Heads that came to their end.
    heads: u64,
    /// Where it became ambiguous: hyper has the head already, and would take poison for a part of a chunk extension.
    broke_in_body: bool,
}

impl<M: Message> Default for Framing<M> {
    fn default() -> Self {
        Self {
            state: M::initial(),
            line: Vec::new(),
            is_cut: false,
            message: M::default(),
            heads: 0,
            broke_in_body: false,
        }
    }
}

impl<M: Message> Framing<M> {
    /// Follows the bytes. On ambiguity: how many of them may still be passed on.
    fn follow(&mut self, bytes: &[u8]) -> Result<(), usize> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let at = bytes.len().saturating_sub(rest.len());
            let used = match &mut self.state {
                State::Opaque => return Ok(()),
                State::Silent if self.message.asked() => {
                    self.state = State::StartLine;
                    continue;
                }
                State::Broken | State::Silent => {
                    self.state = State::Broken;
                    return Err(at);
                }
                State::Body(left) | State::ChunkData(left) => {
                    let used = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                    *left = left.saturating_sub(u64::try_from(used).unwrap_or(u64::MAX));
                    if *left == 0 {
                        self.state =
                            if matches!(self.state, State::Body(_)) { M::next() } else { State::ChunkEnd };
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

    /// The number of the head that has begun and is not whole.
    fn unfinished_head(&self) -> Option<u64> {
        let begun = self.state == State::Header || !self.line.is_empty();
        (self.in_head() && begun).then_some(self.heads)
    }

    /// Whether the next byte is the first of a message.
    fn is_between(&self) -> bool {
        self.state == State::StartLine && self.line.is_empty() && !self.is_cut
    }

    fn in_head(&self) -> bool {
        matches!(self.state, State::StartLine | State::Header)
    }

    fn line_ended(&mut self, line: &[u8]) -> Result<(), Ambiguous> {
        // Bare LF, and CR anywhere else (RFC 9112 section 2.2).
        let line = line.strip_suffix(b"\r").ok_or(Ambiguous)?;
        if line.contains(&b'\r') {
            return Err(Ambiguous);
        }
        self.state = match self.state {
            State::StartLine => {
                self.message.start(line)?;
                State::Header
            }
            State::Header if line.is_empty() => {
                self.heads = self.heads.wrapping_add(1);
                self.message.body()?
            }
            State::Header => {
                let (name, value) = field(line)?;
                self.message.header(name, value)?;
                State::Header
            }
            State::ChunkSize => match chunk_size(line)? {
                0 => State::Trailer,
                size => State::ChunkData(size),
            },
            State::ChunkEnd if line.is_empty() => State::ChunkSize,
            State::Trailer if line.is_empty() => M::next(),
            State::Trailer => {
                field(line)?;
                State::Trailer
            }
            _ => return Err(Ambiguous),
        };
        Ok(())
    }
}
