//! Bodies on their way through: streamed, counted, and carrying what must live as long as they do.

use std::cell::{Cell, OnceCell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use palisade_policy::kind::request_guard::rule::GuardRule;
use tokio::time::{Instant, sleep_until};

use super::codec::is_malformed;
use super::copy::{CopyError, CopyReader, CopyWriter};
use super::headers::strip_trailers;
use super::pace::Pace;
use super::replay::{Playback, Replay};
use super::silence::{Alarm, Silence};
use crate::stage::guard::BodyGuard;
use crate::stage::open::{Leash, Why};
use crate::telemetry::record::Record;
use crate::upstream::pool::Lease;

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
        self.tally.request_ended.set(true);
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

/// A response body on its way to the caller. The record is written when this is dropped, at the end or before it.
#[derive(Debug)]
pub(crate) struct ResponseBody {
    kind: Kind,
    /// Boxed: hyper moves bodies several times. `None` where the record went with a tunnel.
    record: Option<Box<Record>>,
}

#[derive(Debug)]
enum Kind {
    /// Our own words: a refusal, or the empty body of an accepted upgrade.
    Own(Option<Bytes>),
    Upstream {
        incoming: Incoming,
        http2: bool,
        lease: Option<Lease>,
        wait: Wait,
    },
}

/// For the next frame of an answer.
#[derive(Debug, Default)]
struct Wait {
    under_way: bool,
    alarm: Alarm,
    deadline: Alarm,
}

impl Wait {
    /// Ready when nobody waits for the rest any more.
    fn poll_deadline(&mut self, deadline: Option<Instant>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = deadline else { return Poll::Pending };
        let alarm = self.deadline.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        alarm.as_mut().poll(cx)
    }

    /// Nothing has come. Ready when no byte has gone either way for too long.
    fn poll_too_long(&mut self, silence: Option<&Silence>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(silence) = silence else { return Poll::Pending };
        if !std::mem::replace(&mut self.under_way, true) {
            // Until now the caller was taking what had come before.
            silence.broken();
        }
        silence.poll_too_long(&mut self.alarm, cx)
    }
}

impl ResponseBody {
    pub(crate) fn own(text: Bytes, record: Box<Record>) -> Self {
        let text = (!text.is_empty()).then_some(text);
        Self { kind: Kind::Own(text), record: Some(record) }
    }

    /// The body of a 101: what follows belongs to the tunnel, and the record with it.
    pub(crate) fn empty() -> Self {
        Self { kind: Kind::Own(None), record: None }
    }

    pub(crate) fn upstream(incoming: Incoming, http2: bool, lease: Lease, mut record: Box<Record>) -> Self {
        if incoming.is_end_stream() {
            record.response_ended(None);
        }
        Self {
            kind: Kind::Upstream { incoming, http2, lease: Some(lease), wait: Wait::default() },
            record: Some(record),
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if let Some(why) = this.not_allowed() {
            return Poll::Ready(Some(this.end_closed(why)));
        }
        let deadline = this.record.as_ref().and_then(|record| record.tally.deadline.get());
        if let Kind::Upstream { wait, .. } = &mut this.kind
            && wait.poll_deadline(deadline, cx).is_ready()
        {
            return Poll::Ready(Some(this.end_late()));
        }
        let frame = match &mut this.kind {
            Kind::Own(text) => {
                return Poll::Ready(text.take().map(|text| {
                    if let Some(record) = &mut this.record {
                        record.sent(text.len());
                    }
                    Ok(Frame::data(text))
                }));
            }
            Kind::Upstream { incoming, http2, wait, .. } => match poll_incoming(incoming, *http2, cx) {
                Poll::Ready(frame) => {
                    wait.under_way = false;
                    frame
                }
                Poll::Pending => {
                    if let Some(record) = &this.record {
                        // Woken when that changes.
                        let _not_over = record.tally.leash.poll_answer(cx);
                    }
                    let silence = this.record.as_ref().and_then(|record| record.tally.silence.as_ref());
                    ready!(wait.poll_too_long(silence, cx));
                    return Poll::Ready(Some(this.end_idle()));
                }
            },
        };
        match &frame {
            Some(Ok(frame)) => this.saw(frame),
            Some(Err(error)) => {
                if let Some(record) = &mut this.record {
                    record.upstream_failed(error.is_framing());
                }
            }
            None => this.ended(None),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Own(text) => text.is_none(),
            Kind::Upstream { incoming, .. } => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Own(text) => {
                SizeHint::with_exact(text.as_ref().map_or(0, |t| u64::try_from(t.len()).unwrap_or(0)))
            }
            Kind::Upstream { incoming, .. } => incoming.size_hint(),
        }
    }
}

impl ResponseBody {
    /// Whether the request's body came to its end at whoever it was sent to.
    pub(crate) fn request_ended(&self) -> bool {
        self.record.as_ref().is_some_and(|record| record.tally.request_ended.get())
    }

    /// Lets go of an answer that nobody waits for, as if it had ended.
    pub(crate) fn abandon(mut self) {
        if let Some(record) = &mut self.record {
            record.response_ended(None);
        }
    }

    /// Ends an answer in which nothing moves, and lets go of the upstream. Callers of gRPC are told in trailers; to others
    /// what they have must not look whole.
    fn end_idle(&mut self) -> Result<Frame<Bytes>, BodyError> {
        self.kind = Kind::Own(None);
        let told = self.record.as_mut().and_then(|record| record.idle());
        told.map(Frame::trailers).ok_or(BodyError::Idle)
    }

    /// Ends an answer whose caller does not wait any longer, as `end_idle` does.
    fn end_late(&mut self) -> Result<Frame<Bytes>, BodyError> {
        self.kind = Kind::Own(None);
        let told = self.record.as_mut().and_then(|record| record.late());
        told.map(Frame::trailers).ok_or(BodyError::Late)
    }

    /// Why the rest of an upstream's answer may not be passed on.
    fn not_allowed(&self) -> Option<Why> {
        match (&self.kind, &self.record) {
            (Kind::Upstream { .. }, Some(record)) => record.tally.leash.over(),
            _ => None,
        }
    }

    /// Ends an answer whose caller may not have it any longer, as `end_idle` does.
    fn end_closed(&mut self, why: Why) -> Result<Frame<Bytes>, BodyError> {
        self.kind = Kind::Own(None);
        let told = self.record.as_mut().and_then(|record| record.closed(why));
        told.map(Frame::trailers).ok_or(BodyError::Closed)
    }

    fn saw(&mut self, frame: &Frame<Bytes>) {
        if let (Some(data), Some(record)) = (frame.data_ref(), &mut self.record) {
            record.sent(data.len());
        }
        if let Some(trailers) = frame.trailers_ref() {
            self.ended(Some(trailers));
        } else if self.is_end_stream() {
            // A codec that knows the length asks no more after the last byte.
            self.ended(None);
        }
    }

    fn ended(&mut self, trailers: Option<&HeaderMap>) {
        if let Some(record) = &mut self.record {
            record.response_ended(trailers);
        }
        if let Kind::Upstream { lease, .. } = &mut self.kind
            && let Some(lease) = lease.take()
        {
            lease.give_back();
        }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        if self.is_end_stream() {
            self.ended(None);
        }
    }
}
