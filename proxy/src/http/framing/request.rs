//! What frames a request.

use super::fields::{Length, within};
use super::{Ambiguous, Message, State};

#[derive(Debug, Default)]
pub(crate) struct Request {
    http_1_0: bool,
    length: Length,
    /// Lines of `Upgrade`, and whether the only one says WebSocket.
    upgrades: u32,
    websocket: bool,
    connection_upgrade: bool,
}

impl Message for Request {
    /// Invalid everywhere in a head. The empty line makes hyper parse a head that came in parts, which it does not
    /// before it has seen the end.
    const POISON: Option<&'static [u8]> = Some(b"\0\r\n\r\n");

    fn initial() -> State {
        State::StartLine
    }

    fn next() -> State {
        State::StartLine
    }

    fn start(&mut self, line: &[u8]) -> Result<(), Ambiguous> {
        // A fragment (`#`) is never sent (RFC 9112 section 3.2); the http crate would cut it off in silence.
        if line.is_empty() || line.contains(&b'#') {
            return Err(Ambiguous);
        }
        *self = Self { http_1_0: line.ends_with(b"HTTP/1.0"), ..Self::default() };
        Ok(())
    }

    fn header(&mut self, name: &[u8], value: &[u8]) -> Result<(), Ambiguous> {
        if name.eq_ignore_ascii_case(b"upgrade") {
            self.upgrades = self.upgrades.saturating_add(1);
            self.websocket = self.upgrades == 1 && value.eq_ignore_ascii_case(b"websocket");
        } else if name.eq_ignore_ascii_case(b"connection") {
            let mut tokens = value.split(|b| *b == b',');
            self.connection_upgrade |=
                tokens.any(|token| token.trim_ascii().eq_ignore_ascii_case(b"upgrade"));
        }
        self.length.header(name, value, self.http_1_0)
    }

    fn body(&mut self) -> Result<State, Ambiguous> {
        let told = self.length.told()?;
        let switches = self.websocket && self.connection_upgrade && !self.http_1_0;
        match told {
            // Behind the wish: another protocol, or a connection that we close.
            None | Some(Some(0)) if switches => Ok(State::Opaque),
            // A handshake has no body (RFC 6455 section 4.1), so what follows is of one kind.
            Some(_) if switches => Err(Ambiguous),
            Some(bytes) => Ok(within(bytes, State::StartLine)),
            None => Ok(State::StartLine),
        }
    }
}
