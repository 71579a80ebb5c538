//! Traces: where a request stands in one, what its upstream is told of it, and how its spans reach a collector.
//!
//! A request's spans are made once, when its record is dropped, of what the record knows by then. Until then a traced
//! request carries two ids and what each attempt cost; one that is not sampled, one id. Why not `tracing` spans:
//! docs/decisions/0009-traces.md.

mod attempt;
pub(crate) mod context;
mod deliver;
mod export;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod queue;
mod resource;
pub(crate) mod span;
mod transport;

use std::net::SocketAddr;
use std::sync::Arc;

use http::header::HeaderMap;
use tokio::time::Instant;

pub(crate) use attempt::{Attempt, AttemptEnd};
use context::{Context, SpanId, TRACEPARENT, TRACESTATE, TraceId, is_state_valid, state};
pub(super) use export::Exporter;
pub(super) use queue::Spans;

use super::record::FaultType;
use crate::upstream::connect::{Security, Wire};
use crate::worker::{Direction, Worker};

/// Where a request's trace comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// It begins here. At an edge that believes no client, what the client said is known, and no more.
    Here { client: Option<Context> },
    /// The caller's span.
    Caller(SpanId),
    /// It is a copy: the span of the request that it is a copy of.
    Copied(SpanId),
}

/// A request's place in a trace. Exists only where traces are exported.
#[derive(Debug)]
pub(crate) struct Trace {
    /// Of the request's own span. Of one that is not sampled the caller's.
    pub(crate) own: Context,
    pub(crate) origin: Origin,
    /// The caller's `tracestate` may be passed on.
    keeps_state: bool,
    /// That state, of a sampled request.
    pub(crate) state: String,
    /// Of a sampled request, in their order.
    pub(crate) attempts: Vec<Attempt>,
}

impl Trace {
    /// Follows the caller's trace, or begins one. At an edge clients are followed only if it was told so: their ids
    /// would be chosen, and our cost be caused, by anybody.
    pub(crate) fn begin(worker: &Worker, direction: Direction, headers: &HeaderMap) -> Option<Box<Self>> {
        let settings = &worker.shared.settings;
        let sample = settings.trace.as_ref()?.sample;
        let told = Context::of(headers);
        let follows = direction != Direction::Edge || settings.follows_clients();
        Some(Box::new(match told.filter(|_| follows) {
            Some(caller) => Self::follow(caller, headers),
            None => {
                let id = TraceId::random();
                let own = Context::new(id, SpanId::random(), sample.takes(id.number()));
                let origin = Origin::Here { client: told };
                Self { own, origin, keeps_state: false, state: String::new(), attempts: Vec::new() }
            }
        }))
    }

    fn follow(caller: Context, headers: &HeaderMap) -> Self {
        let keeps_state = is_state_valid(headers);
        let state = if keeps_state && caller.is_sampled() { state(headers) } else { String::new() };
        let own = if caller.is_sampled() { caller.at(SpanId::random()) } else { caller };
        Self { own, origin: Origin::Caller(caller.span), keeps_state, state, attempts: Vec::new() }
    }

    /// The place of a copy of this request.
    pub(crate) fn copy(&self) -> Box<Self> {
        let Self { own, keeps_state, ref state, .. } = *self;
        let origin = if self.is_sampled() { Origin::Copied(own.span) } else { self.origin };
        Box::new(Self { own, origin, keeps_state, state: state.clone(), attempts: Vec::new() })
    }

    pub(crate) fn is_sampled(&self) -> bool {
        self.own.is_sampled()
    }

    /// As records have it, 32 digits.
    pub(crate) fn id_text(&self) -> String {
        hex::encode(self.own.trace.bytes())
    }

    /// The span of the request itself, 16 digits, where there is one.
    pub(crate) fn span_text(&self) -> Option<String> {
        let recorded = self.is_sampled() && !matches!(self.origin, Origin::Copied(_));
        recorded.then(|| hex::encode(self.own.span.bytes()))
    }

    /// Before each attempt: the upstream is told which span it is called by. Where nothing is recorded, a caller's own
    /// context stays as it came, and a new trace is told of, so that nobody behind us begins another one.
    pub(crate) fn attempt<B>(
        &mut self,
        address: SocketAddr,
        wire: Wire,
        security: &Security,
        request: &mut http::Request<B>,
    ) {
        let context = if self.is_sampled() {
            let attempt = Attempt::begin(address, wire, security, request);
            let context = self.own.at(attempt.span);
            self.attempts.push(attempt);
            context
        } else if self.continues_caller() {
            return self.tidy_state(request.headers_mut());
        } else {
            self.own
        };
        let headers = request.headers_mut();
        headers.insert(TRACEPARENT, context.header());
        self.tidy_state(headers);
    }

    /// The attempt under way came to nothing, and another one may follow.
    pub(crate) fn attempt_failed(&mut self, reason: &'static str) {
        if let Some(attempt) = self.attempts.last_mut() {
            attempt.end = Some(AttemptEnd { at: Instant::now(), reason });
        }
    }

    /// This is done to the attempt under way because `id` says so. Before the first one, nothing is under way.
    pub(crate) fn injected(&mut self, id: &Arc<str>, kind: FaultType) {
        if let Some(attempt) = self.attempts.last_mut() {
            attempt.fault.get_or_insert_default().note(id, kind);
        }
    }

    fn continues_caller(&self) -> bool {
        matches!(self.origin, Origin::Caller(_))
    }

    fn tidy_state(&self, headers: &mut HeaderMap) {
        if !self.keeps_state {
            headers.remove(TRACESTATE);
        }
    }
}
