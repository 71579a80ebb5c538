//! What frames a response.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use super::fields::{Length, within};
use super::{Ambiguous, Framing, Message, State};

/// Interim responses (1xx) before the final one. Servers send one or two; without an end a caller would wait for ever.
const INTERIM_MAX: u32 = 16;

const NONE: u8 = 0;
const ORDINARY: u8 = 1;
const HEAD: u8 = 2;

/// Tells the reader of a connection that a request was sent on it. Shared with hyper's side of the connection, which
/// has to be `Send`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Turn(Arc<AtomicU8>);

impl Turn {
    /// A request is about to be sent. `is_head`: its response has no body, whatever it says.
    pub(crate) fn ask(&self, is_head: bool) {
        self.0.store(if is_head { HEAD } else { ORDINARY }, Ordering::Relaxed);
    }
}

#[derive(Debug, Default)]
pub(crate) struct Response {
    turn: Turn,
    is_head: bool,
    interim: u32,
    http_1_0: bool,
    status: u16,
    length: Length,
}

impl Framing<Response> {
    pub(super) fn of(turn: Turn) -> Self {
        Self { message: Response { turn, ..Response::default() }, ..Self::default() }
    }
}

impl Message for Response {
    const POISON: Option<&'static [u8]> = None;

    fn initial() -> State {
        State::Silent
    }

    fn next() -> State {
        State::Silent
    }

    fn asked(&mut self) -> bool {
        let turn = self.turn.0.swap(NONE, Ordering::Relaxed);
        self.is_head = turn == HEAD;
        self.interim = 0;
        turn != NONE
    }

    fn start(&mut self, line: &[u8]) -> Result<(), Ambiguous> {
        let (version, rest) = line.split_at_checked(9).ok_or(Ambiguous)?;
        self.http_1_0 = match version {
            b"HTTP/1.1 " => false,
            b"HTTP/1.0 " => true,
            _ => return Err(Ambiguous),
        };
        // Three digits, then a blank and words, or nothing (RFC 9112 section 4; the blank is often left out).
        let (digits, reason) = rest.split_at_checked(3).ok_or(Ambiguous)?;
        if !digits.iter().all(u8::is_ascii_digit) || !matches!(reason.first(), None | Some(b' ')) {
            return Err(Ambiguous);
        }
        self.status = digits.iter().fold(0, |sum, digit| sum * 10 + u16::from(digit.saturating_sub(b'0')));
        self.length = Length::default();
        Ok(())
    }

    fn header(&mut self, name: &[u8], value: &[u8]) -> Result<(), Ambiguous> {
        self.length.header(name, value, self.http_1_0)
    }

    fn body(&mut self) -> Result<State, Ambiguous> {
        let told = self.length.told()?;
        match self.status {
            101 => Ok(State::Opaque),
            100..=199 => {
                self.interim = self.interim.saturating_add(1);
                if self.interim > INTERIM_MAX { Err(Ambiguous) } else { Ok(State::StartLine) }
            }
            204 | 304 => Ok(State::Silent),
            _ if self.is_head => Ok(State::Silent),
            _ => match told {
                Some(bytes) => Ok(within(bytes, State::Silent)),
                None => Ok(State::Opaque),
            },
        }
    }
}
