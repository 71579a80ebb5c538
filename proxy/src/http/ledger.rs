//! HTTP/2 connections seen from below: what the codec refuses by itself.
//!
//! The h2 crate answers a head that is malformed with RST_STREAM, one that is too large with 431, a broken connection with
//! GOAWAY, and tells nobody. This is told of the frames of both directions, and compares the requests that came with those
//! that were handed on.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use super::frames::{Frame, kind};

// Error codes (RFC 9113 section 7). The first and the last: of streams that were handed on.
const NO_ERROR: u8 = 0;
const REFUSED_STREAM: u8 = 7;
const CANCEL: u8 = 8;
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

/// What came, what was handed on, and what the codec answered meanwhile.
#[derive(Debug)]
struct Book {
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
    goaway: Option<u8>,
    told: bool,
}

/// The account of one server connection.
#[derive(Clone, Debug)]
pub(crate) struct Ledger(Rc<RefCell<Book>>);

impl Ledger {
    pub(crate) fn new() -> Self {
        Self(Rc::new(RefCell::new(Book {
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

    /// A whole frame of the client's.
    pub(super) fn received(&self, frame: Frame) {
        let book = &mut *self.0.borrow_mut();
        match frame.kind {
            kind::HEADERS if frame.stream > book.last_stream => {
                book.last_stream = frame.stream;
                book.unfinished = true;
            }
            kind::CONTINUATION => {}
            _ => return,
        }
        if book.unfinished && frame.ends_head() {
            book.unfinished = false;
            book.opened = book.opened.saturating_add(u64::from(book.goaway.is_none()));
        }
    }

    /// A whole frame of ours.
    pub(super) fn sent(&self, frame: Frame) {
        let book = &mut *self.0.borrow_mut();
        match frame.kind {
            kind::HEADERS if frame.ends_stream() => {
                if book.ended.len() == ENDED_MAX {
                    book.ended.pop_front();
                }
                book.ended.push_back(frame.stream);
                book.ended_now = book.ended_now.saturating_add(1);
            }
            kind::RST_STREAM if book.resets.len() < RESETS_MAX => match frame.code {
                NO_ERROR | CANCEL => {}
                _ if book.ended.contains(&frame.stream) => book.resets.push_back(Refused::HeadTooLarge),
                REFUSED_STREAM => book.resets.push_back(Refused::TooManyStreams),
                _ => book.resets.push_back(Refused::Malformed),
            },
            kind::GOAWAY => book.goaway = Some(frame.code),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::http::frames::{Frames, Seen, Way};

    const END_STREAM: u8 = 1;
    const END_HEADERS: u8 = 4;
    const HEADERS: u8 = kind::HEADERS;
    const RST_STREAM: u8 = kind::RST_STREAM;
    const GOAWAY: u8 = kind::GOAWAY;
    const CONTINUATION: u8 = kind::CONTINUATION;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    }

    fn whole(frames: &mut Frames, bytes: &[u8], mut each: impl FnMut(Frame)) {
        let followed = frames.follow(bytes, |frame, seen| {
            if seen == Seen::Whole {
                each(frame);
            }
            Ok::<_, ()>(())
        });
        followed.unwrap();
    }

    fn settled(ledger: &Ledger) -> Vec<Refused> {
        let mut all = Vec::new();
        ledger.settle(|why| all.push(why));
        all
    }

    /// Whole, and byte by byte.
    fn account(read: &[u8], handed_on: usize, wrote: &[u8]) -> Vec<Refused> {
        let read = [[0; 24].as_slice(), read].concat();
        let verdict = |step: usize| {
            let ledger = Ledger::new();
            let (mut from, mut to) = (Frames::new(Way::FromClient), Frames::new(Way::ToClient));
            read.chunks(step).for_each(|bytes| whole(&mut from, bytes, |frame| ledger.received(frame)));
            (0..handed_on).for_each(|_| ledger.handed_on());
            wrote.chunks(step).for_each(|bytes| whole(&mut to, bytes, |frame| ledger.sent(frame)));
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
        assert_eq!(account(&open(1), 0, &reset(1, REFUSED_STREAM.into())), [Refused::TooManyStreams]);
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
        let (mut from, mut to) = (Frames::new(Way::FromClient), Frames::new(Way::ToClient));
        whole(&mut to, &goaway(0), |frame| ledger.sent(frame));
        let late = [vec![0; 24], frame(HEADERS, 5, 1, b"late")].concat();
        whole(&mut from, &late, |frame| ledger.received(frame));
        assert_eq!(settled(&ledger), []);
        whole(&mut to, &goaway(11), |frame| ledger.sent(frame));
        assert_eq!((settled(&ledger), settled(&ledger)), (vec![Refused::Connection], vec![]));
    }
}
