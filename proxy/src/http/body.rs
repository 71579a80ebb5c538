//! Bodies on their way through: streamed, counted, and carrying what must live as long as they do.

mod response;

use std::cell::{Cell, OnceCell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use palisade_policy::kind::request_guard::rule::GuardRule;
use tokio::time::Instant;

use super::codec::is_malformed;
use super::copy::{CopyError, CopyReader, CopyWriter};
use super::headers::strip_trailers;
use super::pace::Pace;
use super::replay::{Playback, Replay};
use super::silence::Silence;
use crate::settings::limits::Limits;
use crate::stage::guard::BodyGuard;
use crate::stage::open::{Leash, Why};

pub(crate) use response::ResponseBody;

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the body could not be read")]
    Codec(#[source] hyper::Error),
    /// hyper takes an HTTP/2 reset with CANCEL or NO_ERROR for the body's end. Passed on like that, a cancelled
    /// upload would look whole to the application.
    #[error("the stream was reset before the body's end")]
    Reset,
    /// We broke it off; why is in the tally.
    #[error("the body was cut off")]
    Cut,
    /// We broke it off: no byte went either way for too long.
    #[error("the stream was silent for too long")]
    Idle,
    /// We broke it off: its time was over.
    #[error("the request's time is over")]
    Late,
    /// We broke it off: an experiment says so.
    #[error("the answer was broken off on purpose")]
    Truncated,
    /// We broke it off: policy changed.
    #[error("the stream is not allowed any longer")]
    Closed,
    /// Of a mirror's body.
    #[error("the copy broke off")]
    Copy(#[from] CopyError),
}

impl BodyError {
    /// Whether bytes came that are no body; a caller that went away sent too few.
    fn is_framing(&self) -> bool {
        matches!(self, Self::Codec(error) if is_malformed(error))
    }
}

/// The next frame, with headers that trailers may not carry removed; never an end that was none.
fn poll_incoming(
    incoming: &mut Incoming,
    http2: bool,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
    let frame = ready!(Pin::new(&mut *incoming).poll_frame(cx));
    Poll::Ready(match frame {
        None if http2 && !incoming.is_end_stream() => Some(Err(BodyError::Reset)),
        frame => frame.map(|frame| frame.map(clean).map_err(BodyError::Codec)),
    })
}

/// What a request's two bodies tell its record.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) received: Cell<u64>,
    /// The request body came to its end.
    pub(crate) request_ended: Cell<bool>,
    /// When; `None` where there was none.
    pub(crate) request_ended_at: Cell<Option<Instant>>,
    /// The request body broke its own framing: the caller's fault, and not to be taken for the upstream's.
    pub(crate) request_malformed: Cell<bool>,
    /// The request body ended before its end, whoever's fault that is: not the upstream's.
    pub(crate) request_broke: Cell<bool>,
    /// When nobody waits for the answer any more.
    pub(crate) deadline: Cell<Option<Instant>>,
    /// A mirror's body broke off: our fault or the original caller's, never the mirror's.
    pub(crate) copy_broke: Cell<bool>,
    /// Why we broke the request body off.
    pub(crate) cut: OnceCell<Cut>,
    /// What is left of that body.
    pub(crate) unread: RefCell<Option<Incoming>>,
    /// How long neither body may move; `None`: as long as they like.
    pub(crate) silence: Option<Silence>,
    /// To the policy that let the request in.
    pub(crate) leash: Leash,
}

impl Tally {
    pub(crate) fn new(idle_timeout: Option<Duration>) -> Self {
        Self { silence: idle_timeout.map(Silence::new), ..Self::default() }
    }

    /// How far the request's body is.
    pub(crate) fn progress(&self) -> (u64, bool) {
        (self.received.get(), self.request_ended.get())
    }
}

/// Why a request body may not go on.
#[derive(Clone, Debug)]
pub(crate) enum Cut {
    /// It broke the bound of this rule.
    Overrun(Arc<GuardRule>),
    /// Its caller does not get on with it.
    Stalled,
    /// What let it in does so no longer.
    Closed(Why),
}

/// A request body on its way upstream.
#[derive(Debug)]
pub(crate) struct RequestBody(Inner);

#[derive(Debug)]
enum Inner {
    None,
    /// It can be sent once.
    Once(Source),
    /// What was sent is kept, and may be sent again.
    Again(Playback),
}

/// Where a request body comes from, and what is made of it before it goes on.
#[derive(Debug)]
pub(crate) struct Source {
    from: From,
    tally: Rc<Tally>,
    /// Who gets a copy of what passes by; hardly ever anybody.
    copies: Vec<CopyWriter>,
    guard: Option<Box<BodyGuard>>,
    pace: Option<Pace>,
}

#[derive(Debug)]
enum From {
    Caller {
        incoming: Incoming,
        http2: bool,
    },
    Original(CopyReader),
    /// Cut off: it never ends well.
    Nobody,
}

impl RequestBody {
    pub(crate) fn new(
        incoming: Incoming,
        http2: bool,
        tally: Rc<Tally>,
        copies: Vec<CopyWriter>,
        guard: Option<Box<BodyGuard>>,
        pace: Option<Pace>,
    ) -> Self {
        tally.request_ended.set(incoming.is_end_stream());
        if incoming.is_end_stream() {
            copies.iter().for_each(CopyWriter::end);
        }
        Self(Inner::Once(Source { from: From::Caller { incoming, http2 }, tally, copies, guard, pace }))
    }

    /// The body of a mirror.
    pub(crate) fn copy(reader: CopyReader, tally: Rc<Tally>) -> Self {
        let from = From::Original(reader);
        Self(Inner::Once(Source { from, tally, copies: Vec::new(), guard: None, pace: None }))
    }

    /// Makes a body that can be sent once one that can be sent again, as long as no more than `max` bytes of it were sent.
    pub(crate) fn kept(self, max: usize) -> (Self, Option<Rc<Replay>>) {
        match self.0 {
            Inner::Once(source) => {
                let replay = Rc::new(Replay::new(source, max));
                (Self::again(&replay), Some(replay))
            }
            other @ (Inner::None | Inner::Again(_)) => (Self(other), None),
        }
    }

    pub(crate) fn none() -> Self {
        Self(Inner::None)
    }

    /// The body once more, from its beginning.
    pub(crate) fn again(replay: &Rc<Replay>) -> Self {
        Self(Inner::Again(Playback::of(replay)))
    }
}

impl Source {
    fn saw(&self, frame: &Frame<Bytes>) {
        if let Some(silence) = &self.tally.silence {
            silence.broken();
        }
        if let Some(data) = frame.data_ref() {
            add(&self.tally.received, data.len());
            self.copies.iter().for_each(|copy| copy.data(data));
        }
        if frame.is_trailers() || self.is_end() {
            self.ended();
        }
    }

    fn ended(&self) {
        if !self.tally.request_ended.replace(true) {
            self.tally.request_ended_at.set(Some(Instant::now()));
        }
        self.copies.iter().for_each(CopyWriter::end);
    }

    /// What a guard makes of the next frame.
    fn guarded(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, BodyError> {
        let Some(guard) = &self.guard else { return Ok(frame) };
        if let Some(data) = frame.data_ref() {
            let more = u64::try_from(data.len()).unwrap_or(u64::MAX);
            if let Some(rule) = guard.broken_by(self.tally.received.get().saturating_add(more)) {
                let rule = rule.clone();
                add(&self.tally.received, data.len());
                return Err(self.cut(Cut::Overrun(rule)));
            }
        }
        Ok(match frame.into_trailers() {
            Ok(mut trailers) => {
                guard.strip_trailers(&mut trailers);
                Frame::trailers(trailers)
            }
            Err(frame) => frame,
        })
    }

    /// Breaks off: neither the upstream nor a mirror may take what went before for a whole body.
    fn cut(&mut self, why: Cut) -> BodyError {
        self.copies.clear();
        let _first = self.tally.cut.set(why);
        if let From::Caller { incoming, .. } = std::mem::replace(&mut self.from, From::Nobody) {
            *self.tally.unread.borrow_mut() = Some(incoming);
        }
        BodyError::Cut
    }

    /// The next frame, within the time that its sender has.
    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(why) = self.tally.leash.over() {
            return Poll::Ready(Some(Err(self.cut(Cut::Closed(why)))));
        }
        let polled = match &mut self.from {
            From::Caller { incoming, http2 } => poll_incoming(incoming, *http2, cx),
            From::Original(reader) => {
                Pin::new(reader).poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(BodyError::Copy)))
            }
            From::Nobody => return Poll::Ready(Some(Err(BodyError::Cut))),
        };
        if polled.is_pending() {
            // Woken when that changes.
            let _not_over = self.tally.leash.poll_body(cx);
        }
        if let (Poll::Pending, Some(silence)) = (&polled, &self.tally.silence)
            && silence.poll_over(cx).is_ready()
        {
            self.from = From::Nobody;
            return Poll::Ready(Some(Err(BodyError::Idle)));
        }
        let Some(pace) = &mut self.pace else { return polled };
        match &polled {
            Poll::Ready(Some(Ok(frame))) => pace.came(frame.data_ref().map_or(0, Bytes::len)),
            Poll::Ready(_) => {}
            Poll::Pending if pace.is_late(cx) => return Poll::Ready(Some(Err(self.cut(Cut::Stalled)))),
            Poll::Pending => {}
        }
        polled
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.0 {
            Inner::None => Poll::Ready(None),
            Inner::Once(source) => source.poll(cx),
            Inner::Again(playback) => playback.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Inner::None => true,
            Inner::Once(source) => source.is_end(),
            Inner::Again(playback) => playback.is_end(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Inner::None => SizeHint::with_exact(0),
            Inner::Once(source) => source.left(),
            Inner::Again(playback) => playback.left(),
        }
    }
}

impl Source {
    /// The next frame.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(self.poll_source(cx));
        let frame = frame.map(|frame| frame.and_then(|frame| self.guarded(frame)));
        match &frame {
            Some(Ok(frame)) => self.saw(frame),
            Some(Err(error)) => {
                self.tally.request_ended.set(true);
                self.tally.request_broke.set(true);
                self.tally.request_malformed.set(error.is_framing());
                self.tally.copy_broke.set(matches!(error, BodyError::Copy(_)));
            }
            None => self.ended(),
        }
        Poll::Ready(frame)
    }

    pub(super) fn is_end(&self) -> bool {
        match &self.from {
            From::Caller { incoming, .. } => incoming.is_end_stream(),
            From::Original(reader) => reader.is_end_stream(),
            From::Nobody => false,
        }
    }

    pub(super) fn left(&self) -> SizeHint {
        match &self.from {
            From::Caller { incoming, .. } => incoming.size_hint(),
            From::Original(reader) => reader.size_hint(),
            From::Nobody => SizeHint::default(),
        }
    }
}

/// Reads what is left of a body that nobody wants, within limits. `false`: that is not all of it.
pub(crate) async fn discard(mut body: Incoming, limits: &Limits) -> bool {
    let reading = async {
        let mut left = limits.discard_bytes_max;
        while let Some(Ok(frame)) = body.frame().await {
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            match left.checked_sub(bytes) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    };
    let _late = tokio::time::timeout(limits.discard_timeout, reading).await;
    body.is_end_stream()
}

/// The rest of a body with so many bytes before it.
pub(super) fn longer(rest: &SizeHint, before: u64) -> SizeHint {
    let mut hint = SizeHint::new();
    hint.set_lower(rest.lower().saturating_add(before));
    if let Some(upper) = rest.upper() {
        hint.set_upper(upper.saturating_add(before));
    }
    hint
}

fn add(cell: &Cell<u64>, bytes: usize) {
    cell.set(cell.get().saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX)));
}

fn clean(frame: Frame<Bytes>) -> Frame<Bytes> {
    match frame.into_trailers() {
        Ok(mut trailers) => {
            strip_trailers(&mut trailers);
            Frame::trailers(trailers)
        }
        Err(frame) => frame,
    }
}
