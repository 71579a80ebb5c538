//! Response bodies on their way to the caller: with the record, the connection and every clock that may end them.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, sleep_until};

use super::{BodyError, longer, poll_incoming};
use crate::http::shape::{Shaped, Shaper};
use crate::http::silence::{Alarm, Silence};
use crate::stage::open::Why;
use crate::telemetry::record::Record;
use crate::upstream::pool::Lease;

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
        /// Under an experiment that is about the body.
        shaper: Option<Box<Shaper>>,
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
        let (lease, shaper) = (Some(lease), record.shaper.take());
        Self {
            kind: Kind::Upstream { incoming, http2, lease, wait: Wait::default(), shaper },
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
            Kind::Upstream { incoming, http2, wait, shaper, .. } => {
                let record = this.record.as_deref_mut();
                match poll_shaped(shaper.as_deref_mut(), incoming, *http2, record, cx) {
                    Poll::Ready(Shaped::Pass(frame)) => {
                        wait.under_way = false;
                        frame
                    }
                    Poll::Ready(Shaped::Break) => return Poll::Ready(Some(this.end_truncated())),
                    Poll::Pending => {
                        if let Some(record) = &this.record {
                            // Woken when that changes.
                            let _not_over = record.tally.leash.poll_answer(cx);
                        }
                        let silence = this.record.as_ref().and_then(|record| record.tally.silence.as_ref());
                        ready!(wait.poll_too_long(silence, cx));
                        return Poll::Ready(Some(this.end_idle()));
                    }
                }
            }
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
            Kind::Upstream { incoming, shaper, .. } => {
                incoming.is_end_stream() && shaper.as_ref().is_none_or(|shaper| shaper.held() == 0)
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Own(text) => {
                SizeHint::with_exact(text.as_ref().map_or(0, |t| u64::try_from(t.len()).unwrap_or(0)))
            }
            Kind::Upstream { incoming, shaper: None, .. } => incoming.size_hint(),
            Kind::Upstream { incoming, shaper: Some(shaper), .. } => {
                longer(&incoming.size_hint(), shaper.held())
            }
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

    /// Ends an answer because an experiment says so, as `end_idle` does.
    fn end_truncated(&mut self) -> Result<Frame<Bytes>, BodyError> {
        let was = std::mem::replace(&mut self.kind, Kind::Own(None));
        let Kind::Upstream { shaper: Some(shaper), .. } = was else { return Err(BodyError::Reset) };
        let told = self.record.as_mut().and_then(|record| record.truncated(&shaper.experiment().id));
        told.map(Frame::trailers).ok_or(BodyError::Truncated)
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

/// The next frame, as an experiment lets it pass where there is one.
fn poll_shaped(
    shaper: Option<&mut Shaper>,
    incoming: &mut Incoming,
    http2: bool,
    record: Option<&mut Record>,
    cx: &mut Context<'_>,
) -> Poll<Shaped> {
    let Some(shaper) = shaper else { return poll_incoming(incoming, http2, cx).map(Shaped::Pass) };
    let polled = shaper.poll(cx, |cx| poll_incoming(incoming, http2, cx));
    if let (Some(kind), Some(record)) = (shaper.news(), record) {
        record.injected(&shaper.experiment().id, kind);
    }
    polled
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        if self.is_end_stream() {
            self.ended(None);
        }
    }
}
