//! Request bodies that may be sent again: what went upstream is kept within a bound until an answer is passed on.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Frame, SizeHint};

use super::body::{BodyError, Source, longer};

/// A body, and what of it was sent.
#[derive(Debug)]
pub(crate) struct Replay {
    source: RefCell<Source>,
    sent: RefCell<Sent>,
    max: usize,
    /// More was sent than is kept, or an answer is passed on: it cannot be sent again.
    spent: Cell<bool>,
    ended: Cell<bool>,
    /// The one sending that may go on. The codec may still hold one that was given up.
    turn: Cell<u32>,
}

/// What was sent. Its bytes, and not the frames they came in: a caller that sends byte by byte would have us keep a buffer of
/// the codec's for each of them.
#[derive(Debug, Default)]
struct Sent {
    data: BytesMut,
    trailers: Option<HeaderMap>,
}

impl Sent {
    /// `false`: that would be more than `max`.
    fn keep(&mut self, frame: &Frame<Bytes>, max: usize) -> bool {
        if let Some(data) = frame.data_ref() {
            if self.data.len().saturating_add(data.len()) > max {
                return false;
            }
            self.data.extend_from_slice(data);
        } else if let Some(trailers) = frame.trailers_ref() {
            self.trailers = Some(trailers.clone());
        }
        true
    }

    /// What comes after what was played already.
    fn after(&self, played: Played) -> Option<Frame<Bytes>> {
        match self.data.get(played.bytes..) {
            Some(data) if !data.is_empty() => Some(Frame::data(Bytes::copy_from_slice(data))),
            _ if played.trailers => None,
            _ => self.trailers.clone().map(Frame::trailers),
        }
    }

    fn left(&self, played: Played) -> usize {
        self.data.len().saturating_sub(played.bytes)
    }
}

/// How far a sending is.
#[derive(Clone, Copy, Debug, Default)]
struct Played {
    bytes: usize,
    trailers: bool,
}

impl Played {
    fn saw(&mut self, frame: &Frame<Bytes>) {
        self.bytes = self.bytes.saturating_add(frame.data_ref().map_or(0, Bytes::len));
        self.trailers |= frame.is_trailers();
    }
}

/// One sending of a body.
#[derive(Debug)]
pub(crate) struct Playback {
    replay: Rc<Replay>,
    turn: u32,
    played: Played,
}

impl Replay {
    pub(super) fn new(source: Source, max: usize) -> Self {
        Self {
            source: RefCell::new(source),
            sent: RefCell::default(),
            max,
            spent: Cell::default(),
            ended: Cell::default(),
            turn: Cell::default(),
        }
    }

    /// Whether all that was sent is here.
    pub(crate) fn is_whole(&self) -> bool {
        !self.spent.get()
    }

    /// An answer is passed on: nothing is kept any more.
    pub(crate) fn let_go(&self) {
        self.spent.set(true);
        self.sent.take();
    }

    fn keep(&self, frame: &Frame<Bytes>) {
        if !self.spent.get() && !self.sent.borrow_mut().keep(frame, self.max) {
            self.let_go();
        }
    }
}

impl Playback {
    /// From the beginning. Whatever was sent before goes no further.
    pub(super) fn of(replay: &Rc<Replay>) -> Self {
        let turn = replay.turn.get().wrapping_add(1);
        replay.turn.set(turn);
        Self { replay: replay.clone(), turn, played: Played::default() }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.turn != self.replay.turn.get() {
            return Poll::Ready(Some(Err(BodyError::Cut)));
        }
        let kept = self.replay.sent.borrow().after(self.played);
        if let Some(kept) = kept {
            self.played.saw(&kept);
            return Poll::Ready(Some(Ok(kept)));
        }
        if self.replay.ended.get() {
            return Poll::Ready(None);
        }
        let frame = ready!(self.replay.source.borrow_mut().poll(cx));
        match &frame {
            Some(Ok(frame)) => {
                self.replay.keep(frame);
                self.played.saw(frame);
                if frame.is_trailers() {
                    self.replay.ended.set(true);
                }
            }
            Some(Err(_broken)) => self.replay.let_go(),
            None => self.replay.ended.set(true),
        }
        Poll::Ready(frame)
    }

    pub(super) fn is_end(&self) -> bool {
        let played = self.replay.sent.borrow().after(self.played).is_none();
        played && (self.replay.ended.get() || self.replay.source.borrow().is_end())
    }

    /// What is kept and not yet sent once more, and what is still to come.
    pub(super) fn left(&self) -> SizeHint {
        let kept = u64::try_from(self.replay.sent.borrow().left(self.played)).unwrap_or(u64::MAX);
        longer(&self.replay.source.borrow().left(), kept)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn data(text: &'static str) -> Frame<Bytes> {
        Frame::data(Bytes::from_static(text.as_bytes()))
    }

    /// All that a sending from the beginning gets, as texts.
    fn play(sent: &Sent) -> Vec<String> {
        let (mut played, mut out) = (Played::default(), Vec::new());
        while let Some(frame) = sent.after(played) {
            played.saw(&frame);
            out.push(match frame.data_ref() {
                Some(data) => String::from_utf8(data.to_vec()).unwrap(),
                None => "trailers".into(),
            });
        }
        assert_eq!(sent.left(played), 0);
        out
    }

    #[test]
    fn what_came_in_many_frames_is_kept_as_one() {
        let mut sent = Sent::default();
        assert!(["a", "b", "", "c"].into_iter().all(|text| sent.keep(&data(text), 3)));
        assert_eq!(play(&sent), ["abc"]);
        assert!(sent.data.capacity() <= 64, "{}", sent.data.capacity());
        let trailers = HeaderMap::from_iter([(http::header::ETAG, HeaderValue::from_static("x"))]);
        assert!(sent.keep(&Frame::trailers(trailers), 3));
        assert_eq!(play(&sent), ["abc", "trailers"]);
    }

    #[test]
    fn no_byte_more_than_the_bound_is_kept() {
        let mut sent = Sent::default();
        assert!(sent.keep(&data("abc"), 4));
        assert!(!sent.keep(&data("de"), 4));
        assert_eq!(sent.data.len(), 3);
    }

    #[test]
    fn a_sending_that_is_half_done_goes_on_where_it_was() {
        let mut sent = Sent::default();
        assert!(sent.keep(&data("abcd"), 8));
        let mut played = Played::default();
        played.saw(&data("abc"));
        assert_eq!(sent.left(played), 1);
        assert_eq!(sent.after(played).and_then(|frame| frame.into_data().ok()).unwrap(), "d");
        played.saw(&data("d"));
        assert!(sent.after(played).is_none());
        // Others were let go of meanwhile.
        assert_eq!((sent.left(Played { bytes: 9, trailers: false }), sent.left(Played::default())), (0, 4));
    }
}
