//! HTTP/2 connections seen from below: what the codec refuses by itself.
//!
//! The h2 crate answers a head that is malformed with RST_STREAM, one that is too large with 431, a broken connection with
//! GOAWAY, and tells nobody. This follows the frame headers (RFC 9113 section 4.1) of both directions, and compares the
//! requests that came with those that were handed on.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// RFC 9113 section 3.4.
const PREFACE_BYTES: usize = 24;
const FRAME_HEAD_BYTES: usize = 9;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const REFUSED_STREAM: u32 = 7;
/// Streams that we answered and ended lately: a 431 and its reset leave close together.
const ENDED_MAX: usize = 32;
/// Resets that wait for [`Ledger::settle`], which comes after every turn of the codec.
const RESETS_MAX: usize = 256;

/// What the codec refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// A head that is no request, by a reset.
    Malformed,
    /// 431.
    HeadTooLarge,
    /// A stream over the limit on concurrent ones.
    TooManyStreams,
    /// All of the connection.
    Connection,
}

/// One direction of a connection, cut into frames.
#[derive(Debug)]
struct Frames {
    skip: usize,
    head: Vec<u8>,
    payload_left: usize,
    /// The start of the payload: all that is looked at.
    payload: Vec<u8>,
}

/// A frame that came or went whole. The payload is cut to its first 8 bytes.
struct Frame<'f> {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: &'f [u8],
}

impl Frames {
    fn new(skip: usize) -> Self {
        Self {
            skip,
            head: Vec::with_capacity(FRAME_HEAD_BYTES),
            payload_left: 0,
            payload: Vec::with_capacity(8),
        }
    }

    fn follow(&mut self, mut bytes: &[u8], mut whole: impl FnMut(&Frame<'_>)) {
        let skipped = self.skip.min(bytes.len());
        self.skip = self.skip.saturating_sub(skipped);
        bytes = bytes.get(skipped..).unwrap_or_default();
        while !bytes.is_empty() {
            if self.head.len() < FRAME_HEAD_BYTES {
                bytes = move_to(&mut self.head, FRAME_HEAD_BYTES, bytes);
                if self.head.len() < FRAME_HEAD_BYTES {
                    return;
                }
                self.payload_left = length(&self.head);
            } else {
                let now = self.payload_left.min(bytes.len());
                let (part, rest) = bytes.split_at(now);
                move_to(&mut self.payload, 8, part);
                self.payload_left = self.payload_left.saturating_sub(now);
                bytes = rest;
            }
            if self.payload_left == 0 {
                if let [_, _, _, kind, flags, stream @ ..] = self.head.as_slice() {
                    let stream = number(stream) & 0x7fff_ffff;
                    whole(&Frame { kind: *kind, flags: *flags, stream, payload: &self.payload });
                }
                self.head.clear();
                self.payload.clear();
            }
        }
    }
}

/// Moves bytes until `to` holds `most`; gives back the others.
fn move_to<'b>(to: &mut Vec<u8>, most: usize, bytes: &'b [u8]) -> &'b [u8] {
    let (part, rest) = bytes.split_at(most.saturating_sub(to.len()).min(bytes.len()));
    to.extend_from_slice(part);
    rest
}

/// The length of a frame's payload: 24 bits.
fn length(head: &[u8]) -> usize {
    let bytes = head.get(..3).unwrap_or_default();
    bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte))
}

/// The first four bytes; 0 where there are fewer.
fn number(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |four| u32::from_be_bytes(*four))
}

/// What came, what was handed on, and what the codec answered meanwhile.
#[derive(Debug)]
struct Book {
    reading: Frames,
    writing: Frames,
    /// The last stream that a request opened.
    last_stream: u32,
    /// A head that CONTINUATION goes on with.
    unfinished: bool,
    opened: u64,
    handed_on: u64,
    refused: u64,
    /// Streams that we ended by a head without a body, and how many of them since the last turn.
    ended: VecDeque<u32>,
    ended_now: u64,
    resets: VecDeque<Refused>,
    /// We said goodbye, for a reason (not 0) or none: what comes then is ignored, and no refusal.
    goaway: Option<u32>,
    told: bool,
}

/// The account of one server connection.
#[derive(Clone, Debug)]
pub(crate) struct Ledger(Rc<RefCell<Book>>);

impl Ledger {
    pub(crate) fn new() -> Self {
        Self(Rc::new(RefCell::new(Book {
            reading: Frames::new(PREFACE_BYTES),
            writing: Frames::new(0),
            last_stream: 0,
            unfinished: false,
            opened: 0,
            handed_on: 0,
            refused: 0,
            ended: VecDeque::new(),
            ended_now: 0,
            resets: VecDeque::new(),
            goaway: None,
            told: false,
        })))
    }

    /// The codec made a request of a stream.
    pub(crate) fn handed_on(&self) {
        let mut book = self.0.borrow_mut();
        book.handed_on = book.handed_on.saturating_add(1);
    }

    /// After a turn of the codec, when all requests that it made are handed on: what it refused in that turn. A reset
    /// of a stream that was handed on is none of it; that request has a record.
    pub(crate) fn settle(&self, mut refused: impl FnMut(Refused)) {
        let mut book = self.0.borrow_mut();
        let missing = book.opened.saturating_sub(book.handed_on).saturating_sub(book.refused);
        for _ in 0..missing {
            // A 431 to a request without a body ends its stream: no reset follows.
            let unread = (book.ended_now > 0).then_some(Refused::HeadTooLarge);
            let Some(why) = book.resets.pop_front().or(unread) else { break };
            book.refused = book.refused.saturating_add(1);
            refused(why);
        }
        book.resets.clear();
        book.ended_now = 0;
        if book.goaway.is_some_and(|code| code != 0) && !book.told {
            book.told = true;
            refused(Refused::Connection);
        }
    }

    fn read(&self, bytes: &[u8]) {
        let book = &mut *self.0.borrow_mut();
        let Book { reading, last_stream, unfinished, opened, goaway, .. } = book;
        reading.follow(bytes, |frame| {
            match frame.kind {
                HEADERS if frame.stream > *last_stream => {
                    *last_stream = frame.stream;
                    *unfinished = true;
                }
                CONTINUATION => {}
                _ => return,
            }
            if *unfinished && frame.flags & END_HEADERS != 0 {
                *unfinished = false;
                *opened = opened.saturating_add(u64::from(goaway.is_none()));
            }
        });
    }

    fn wrote(&self, bytes: &[u8]) {
        let book = &mut *self.0.borrow_mut();
        let Book { writing, ended, ended_now, resets, goaway, .. } = book;
        writing.follow(bytes, |frame| match frame.kind {
            HEADERS if frame.flags & END_STREAM != 0 => {
                if ended.len() == ENDED_MAX {
                    ended.pop_front();
                }
                ended.push_back(frame.stream);
                *ended_now = ended_now.saturating_add(1);
            }
            RST_STREAM if resets.len() < RESETS_MAX => match number(frame.payload) {
                // NO_ERROR and CANCEL: of streams that were handed on.
                0 | 8 => {}
                _ if ended.contains(&frame.stream) => resets.push_back(Refused::HeadTooLarge),
                REFUSED_STREAM => resets.push_back(Refused::TooManyStreams),
                _ => resets.push_back(Refused::Malformed),
            },
            GOAWAY => *goaway = Some(number(frame.payload.get(4..).unwrap_or_default())),
            _ => {}
        });
    }
}

/// A server connection whose frames are entered in a ledger.
#[derive(Debug)]
pub(crate) struct Watched<T> {
    io: T,
    ledger: Ledger,
}

impl<T> Watched<T> {
    pub(crate) fn new(io: T, ledger: Ledger) -> Self {
        Self { io, ledger }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        self.ledger.read(buf.filled().get(before..).unwrap_or_default());
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, buf))?;
        self.ledger.wrote(buf.get(..written).unwrap_or_default());
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, bufs))?;
        let mut left = written;
        for buf in bufs {
            let part = buf.get(..left.min(buf.len())).unwrap_or_default();
            self.ledger.wrote(part);
            left = left.saturating_sub(part.len());
        }
        Poll::Ready(Ok(written))
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

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    }

    fn settled(ledger: &Ledger) -> Vec<Refused> {
        let mut all = Vec::new();
        ledger.settle(|why| all.push(why));
        all
    }

    /// Whole, and byte by byte.
    fn account(read: &[u8], handed_on: usize, wrote: &[u8]) -> Vec<Refused> {
        let read = [[0; PREFACE_BYTES].as_slice(), read].concat();
        let verdict = |step: usize| {
            let ledger = Ledger::new();
            read.chunks(step).for_each(|bytes| ledger.read(bytes));
            (0..handed_on).for_each(|_| ledger.handed_on());
            wrote.chunks(step).for_each(|bytes| ledger.wrote(bytes));
            settled(&ledger)
        };
        assert_eq!(verdict(1), verdict(usize::MAX));
        verdict(usize::MAX)
    }

    #[test]
    fn what_the_codec_refuses_is_told_from_what_was_handed_on() {
        let open = |id| frame(HEADERS, END_STREAM | END_HEADERS, id, b"block");
        let reset = |id, code: u32| frame(RST_STREAM, 0, id, &code.to_be_bytes());
        let answer = |id| frame(HEADERS, END_STREAM | END_HEADERS, id, &[0x88]);
        assert_eq!(account(&open(1), 1, &answer(1)), []);
        assert_eq!(account(&open(1), 0, &reset(1, 1)), [Refused::Malformed]);
        assert_eq!(account(&open(1), 0, &[answer(1), reset(1, 1)].concat()), [Refused::HeadTooLarge]);
        assert_eq!(account(&open(1), 0, &answer(1)), [Refused::HeadTooLarge]);
        assert_eq!(account(&open(1), 0, &reset(1, REFUSED_STREAM)), [Refused::TooManyStreams]);
        // A body that broke its stream: the request has a record of its own.
        assert_eq!(account(&open(1), 1, &reset(1, 1)), []);
        let both = [open(1), open(3)].concat();
        assert_eq!(account(&both, 1, &reset(3, 1)), [Refused::Malformed]);
        let continued = [frame(HEADERS, 0, 1, b"a"), frame(CONTINUATION, END_HEADERS, 1, b"b")].concat();
        assert_eq!(account(&continued, 0, &reset(1, 1)), [Refused::Malformed]);
        assert_eq!(account(&frame(HEADERS, 0, 1, b"a"), 0, &reset(1, 1)), []);
    }

    #[test]
    fn a_goodbye_for_a_reason_is_told_once_and_an_orderly_one_never() {
        let goaway = |code: u32| frame(GOAWAY, 0, 0, &[[0; 4], code.to_be_bytes()].concat());
        assert_eq!(account(b"", 0, &goaway(1)), [Refused::Connection]);
        assert_eq!(account(b"", 0, &[goaway(1), goaway(1)].concat()), [Refused::Connection]);
        assert_eq!(account(b"", 0, &goaway(0)), []);
        let ledger = Ledger::new();
        ledger.wrote(&goaway(0));
        ledger.read(&[[0; PREFACE_BYTES].to_vec(), frame(HEADERS, 5, 1, b"late")].concat());
        assert_eq!(settled(&ledger), []);
        ledger.wrote(&goaway(11));
        assert_eq!((settled(&ledger), settled(&ledger)), (vec![Refused::Connection], vec![]));
    }
}
