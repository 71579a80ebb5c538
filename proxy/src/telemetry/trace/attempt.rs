//! One try to reach an upstream: a client span.

use std::net::SocketAddr;

use http::Request;
use http::header::HOST;
use http::uri::Authority;
use tokio::time::Instant;

use super::context::SpanId;
use crate::telemetry::record::Injected;
use crate::upstream::connect::{Security, Wire};

#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) span: SpanId,
    pub(crate) started: Instant,
    pub(crate) address: SocketAddr,
    pub(crate) wire: Wire,
    /// What the upstream is asked for, as it is written on the wire.
    pub(crate) scheme: &'static str,
    pub(crate) authority: Option<Authority>,
    /// Without the query, which may hold what is nobody's business.
    pub(crate) path: String,
    /// Of one that failed while others followed; `None`: it ended with its request.
    pub(crate) end: Option<AttemptEnd>,
    /// What was done to it on purpose.
    pub(crate) fault: Option<Box<Injected>>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct AttemptEnd {
    pub(crate) at: Instant,
    pub(crate) reason: &'static str,
}

impl Attempt {
    pub(super) fn begin<B>(
        address: SocketAddr,
        wire: Wire,
        security: &Security,
        request: &Request<B>,
    ) -> Self {
        let host = || Authority::try_from(request.headers().get(HOST)?.as_bytes()).ok();
        Self {
            span: SpanId::random(),
            started: Instant::now(),
            address,
            wire,
            scheme: if matches!(security, Security::Plaintext) { "http" } else { "https" },
            authority: request.uri().authority().cloned().or_else(host),
            path: request.uri().path().to_owned(),
            end: None,
            fault: None,
        }
    }
}
