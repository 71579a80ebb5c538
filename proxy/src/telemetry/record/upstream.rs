//! What tries at upstreams leave in the record, and what it says of them.

use super::Record;
use crate::error::{ProxyError, Side};
use crate::http::silence::Silence;
use crate::stage::again::Refused;
use crate::upstream::endpoint::Seen;
use crate::worker::Direction;

impl Record {
    pub(crate) fn is_grpc(&self) -> bool {
        self.grpc
    }

    /// Notes what the try under way says of its endpoint.
    pub(crate) fn saw(&self, seen: Seen) {
        if let Some(visit) = &self.visit {
            visit.saw(seen);
        }
    }

    /// The other sidecar may have ended the stream because nobody spoke: that says nothing of the endpoint.
    pub(super) fn was_silent(&self) -> bool {
        self.mesh_upstream && self.tally.silence.as_ref().is_some_and(Silence::is_nearly_too_long)
    }

    /// What an upstream answered would have been tried again, but that there were enough tries, or too many at once.
    pub(crate) fn retries_exhausted(&mut self) {
        self.flag = "URX";
    }

    /// What another sidecar may be told of a refusal: whether the application was asked.
    pub(crate) fn refused(&self, error: &ProxyError) -> Option<Refused> {
        if self.direction != Direction::Inbound || self.tls.is_none() {
            return None;
        }
        Some(match (self.upstream_sent_at, error) {
            (None, ProxyError::Connection(_) | ProxyError::NoEndpoint) => Refused::Unreachable,
            (None, ProxyError::Unhealthy(_)) => Refused::Unwell,
            (None, ProxyError::ConcurrencyLimit) => Refused::Busy,
            (None, _) => Refused::Before,
            // As where the caller's sidecar finds it out itself.
            (Some(_), ProxyError::StreamIdle) => Refused::Cut,
            (Some(_), _) if error.consequence().side == Side::Upstream => Refused::Failed,
            (Some(_), _) => Refused::Cut,
        })
    }

    /// An attempt to reach the upstream failed, and another one may follow.
    pub(crate) fn attempt_failed(&mut self, error: &ProxyError) {
        if let Some(trace) = &mut self.trace {
            trace.attempt_failed(error.consequence().reason);
        }
    }
}
