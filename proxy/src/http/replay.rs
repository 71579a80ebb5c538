//! Request bodies that may be sent again: what went upstream is kept within a bound until an answer is passed on.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};

use super::body::{BodyError, Source};

/// A body, and what of it was sent.
#[derive(Debug)]
pub(crate) struct Replay {
    source: RefCell<Source>,
    sent: RefCell<Vec<Sent>>,
    bytes: Cell<usize>,
    max: usize,
    /// More was sent than is kept, or an answer is passed on: it cannot be sent again.
    spent: Cell<bool>,
    ended: Cell<bool>,
    /// The one sending that may go on. The codec may still hold one that was given up.
    turn: Cell<u32>,
}

#[derive(Clone, Debug)]
enum Sent {
    Data(Bytes),
    Trailers(HeaderMap),
}

/// One sending of a body.
#[derive(Debug)]
pub(crate) struct Playback {
    replay: Rc<Replay>,
    turn: u32,
    next: usize,
}

impl Replay {
    pub(super) fn new(source: Source, max: usize) -> Self {
        Self {
            source: RefCell::new(source),
            sent: RefCell::default(),
            bytes: Cell::default(),
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
        self.sent.borrow_mut().clear();
    }

    fn keep(&self, frame: &Frame<Bytes>) {
        if self.spent.get() {
            return;
        }
        let sent = match (frame.data_ref(), frame.trailers_ref()) {
            (Some(data), _) => {
                self.bytes.set(self.bytes.get().saturating_add(data.len()));
                Sent::Data(data.clone())
            }
            (None, Some(trailers)) => Sent::Trailers(trailers.clone()),
            (None, None) => return,
        };
        if self.bytes.get() > self.max {
            self.let_go();
        } else {
            self.sent.borrow_mut().push(sent);
        }
    }
}

impl Playback {
    /// From the beginning. Whatever was sent before goes no further.
    pub(super) fn of(replay: &Rc<Replay>) -> Self {
        let turn = replay.turn.get().wrapping_add(1);
        replay.turn.set(turn);
        Self { replay: replay.clone(), turn, next: 0 }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.turn != self.replay.turn.get() {
            return Poll::Ready(Some(Err(BodyError::Cut)));
        }
        let kept = self.replay.sent.borrow().get(self.next).cloned();
        if let Some(kept) = kept {
            self.next = self.next.saturating_add(1);
            return Poll::Ready(Some(Ok(match kept {
                Sent::Data(data) => Frame::data(data),
                Sent::Trailers(trailers) => Frame::trailers(trailers),
            })));
        }
        if self.replay.ended.get() {
            return Poll::Ready(None);
        }
        let frame = ready!(self.replay.source.borrow_mut().poll(cx));
        match &frame {
            Some(Ok(frame)) => {
                self.replay.keep(frame);
                self.next = self.next.saturating_add(1);
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
        let played = self.next >= self.replay.sent.borrow().len();
        played && (self.replay.ended.get() || self.replay.source.borrow().is_end())
    }

    /// What is kept and not yet sent once more, and what is still to come.
    pub(super) fn left(&self) -> SizeHint {
        let kept = self.replay.sent.borrow();
        let kept = kept.iter().skip(self.next).map(|sent| match sent {
            Sent::Data(data) => u64::try_from(data.len()).unwrap_or(u64::MAX),
            Sent::Trailers(_) => 0,
        });
        let kept = kept.fold(0, u64::saturating_add);
        let rest = self.replay.source.borrow().left();
        let mut hint = SizeHint::new();
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(kept));
        }
        hint.set_lower(rest.lower().saturating_add(kept));
        hint
    }
}
