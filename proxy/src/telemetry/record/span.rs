//! A record as spans: one for the request, and one for each attempt to reach an upstream. Names are those of
//! OpenTelemetry's HTTP conventions, and ours under `palisade.`. Neither queries nor tokens nor bodies are in them.

use std::time::Duration;

use http::uri::Authority;
use http::{HeaderValue, Method, StatusCode, Version};
use palisade_identity::SpiffeId;
use uuid::Uuid;

use super::{Outcome, Record, millis};
use crate::telemetry::trace::span::{Attributes, Outline, Span, SpanKind, link};
use crate::telemetry::trace::{Attempt, Origin, Trace};
use crate::upstream::connect::Wire;

/// What the conventions call every method that is not among theirs, so that callers cannot make up span names.
const OTHER_METHOD: &str = "_OTHER";

impl Record {
    /// The spans of a sampled request that took so long.
    pub(super) fn spans(&self, trace: &Trace, length: Duration) -> Vec<Span> {
        let mut spans = Vec::with_capacity(1 + trace.attempts.len());
        let parent = match trace.origin {
            Origin::Here { .. } => None,
            Origin::Caller(span) | Origin::Copied(span) => Some(span),
        };
        // Nobody asked for a copy: it has no side of a server.
        let served = !matches!(trace.origin, Origin::Copied(_));
        if served {
            let outline = Outline {
                kind: SpanKind::Server,
                context: trace.own,
                parent,
                parent_is_remote: true,
                state: trace.state.clone(),
                start: self.at,
                length,
                name: self.span_name(),
                is_error: self.is_fault(),
            };
            let mut span = outline.span(self.server_attributes());
            if let Origin::Here { client: Some(client) } = trace.origin {
                span.links.push(link(client));
            }
            spans.push(span);
        }
        for (index, attempt) in trace.attempts.iter().enumerate() {
            let begun = attempt.started.saturating_duration_since(self.started);
            let ended = attempt.end.map(|end| end.at.saturating_duration_since(self.started));
            let (attributes, is_error) = self.client_attributes(attempt, index);
            let outline = Outline {
                kind: SpanKind::Client,
                context: trace.own.at(attempt.span),
                parent: if served { Some(trace.own.span) } else { parent },
                parent_is_remote: false,
                state: trace.state.clone(),
                start: self.at + begun,
                length: ended.unwrap_or(length).saturating_sub(begun),
                name: self.method_name().to_owned(),
                is_error,
            };
            spans.push(outline.span(attributes));
        }
        spans
    }

    fn server_attributes(&self) -> Attributes {
        let mut all = Attributes::default();
        self.method_attributes(&mut all);
        all.optional("url.path", self.path.as_ref().map(http::uri::PathAndQuery::path));
        all.text("url.scheme", if self.tls.is_some() { "https" } else { "http" });
        let port = if self.tls.is_some() { 443 } else { 80 };
        server(&mut all, self.authority.as_ref(), port);
        let peer = self.source_address.ip().to_canonical();
        let client = self.client.as_ref().and_then(|client| client.address);
        all.text("client.address", client.unwrap_or(peer).to_string());
        all.text("network.peer.address", peer.to_string());
        all.number("network.peer.port", self.source_address.port());
        all.text("network.protocol.version", if self.version == Version::HTTP_2 { "2" } else { "1.1" });
        let agent = self.user_agent.as_ref().map(HeaderValue::as_bytes);
        all.optional("user_agent.original", agent.map(String::from_utf8_lossy));
        all.optional("http.route", self.route.as_deref());
        if self.status != 0 {
            all.number("http.response.status_code", self.status);
        }
        all.optional("error.type", self.error_type());
        self.rpc_attributes(&mut all);
        self.own_attributes(&mut all);
        all
    }

    /// And whether the attempt came to nothing.
    fn client_attributes(&self, attempt: &Attempt, index: usize) -> (Attributes, bool) {
        let mut all = Attributes::default();
        self.method_attributes(&mut all);
        let port = if attempt.scheme == "https" { 443 } else { 80 };
        if let Some(authority) = &attempt.authority {
            all.text("url.full", format!("{}://{authority}{}", attempt.scheme, attempt.path));
        }
        server(&mut all, attempt.authority.as_ref(), port);
        all.text("network.peer.address", attempt.address.ip().to_string());
        all.number("network.peer.port", attempt.address.port());
        all.text("network.protocol.version", if attempt.wire == Wire::Http2 { "2" } else { "1.1" });
        if index > 0 {
            all.number("http.request.resend_count", u64::try_from(index).unwrap_or(u64::MAX));
        }
        let answered = attempt.end.is_none() && self.upstream_service_time_ms.is_some();
        let error = match attempt.end {
            Some(end) => Some(end.reason.to_owned()),
            None if answered && self.status >= 400 && !self.broke_off() => Some(self.status.to_string()),
            None => self.error_type(),
        };
        if answered {
            all.number("http.response.status_code", self.status);
            self.rpc_attributes(&mut all);
        }
        let failed = match answered {
            true => {
                self.status >= 400 || self.upstream_broke_off() || self.grpc_status.is_some_and(|s| s != 0)
            }
            false => true,
        };
        all.optional("error.type", error);
        all.text("palisade.decision_id", self.decision_id());
        if let Some(fault) = &attempt.fault {
            all.text("palisade.fault", fault.ids());
            all.text("palisade.fault.type", fault.types());
        }
        all.optional("palisade.destination.principal", self.destination.as_ref().map(SpiffeId::as_str));
        all.optional("palisade.mirror_of", self.mirror_of.map(|original| original.to_string()));
        (all, failed)
    }

    fn own_attributes(&self, all: &mut Attributes) {
        all.text("palisade.direction", self.direction.name());
        let mut buffer = Uuid::encode_buffer();
        all.text("palisade.decision_id", &*self.id.as_hyphenated().encode_lower(&mut buffer));
        all.text("palisade.decision", self.outcome.text());
        all.text("palisade.reason", self.reason);
        let rule = self.rule.as_ref();
        all.optional("palisade.policy", rule.map(|rule| format!("{}/{}", rule.namespace, rule.policy)));
        all.optional("palisade.source.principal", self.source.as_ref().map(SpiffeId::as_str));
        all.optional("palisade.destination.principal", self.destination.as_ref().map(SpiffeId::as_str));
        all.optional("palisade.response_flags", Some(self.flags()).filter(|flags| !flags.is_empty()));
        if let Some(fault) = &self.fault {
            all.text("palisade.fault", fault.ids());
            all.text("palisade.fault.type", fault.types());
            if let Some(delay) = fault.delay {
                all.number("palisade.fault.delay_ms", millis(delay));
            }
        }
    }

    fn method_attributes(&self, all: &mut Attributes) {
        let Some(method) = &self.method else { return };
        all.text("http.request.method", known(method));
        if known(method) == OTHER_METHOD {
            all.text("http.request.method_original", method.as_str());
        }
    }

    fn rpc_attributes(&self, all: &mut Attributes) {
        if self.grpc {
            all.text("rpc.system", "grpc");
            if let Some(status) = self.grpc_status {
                all.number("rpc.grpc.status_code", status);
            }
        }
    }

    /// Few names for many requests: of paths nobody knows the pattern.
    fn span_name(&self) -> String {
        match &self.route {
            Some(route) => format!("{} {route}", self.method_name()),
            None => self.method_name().to_owned(),
        }
    }

    fn method_name(&self) -> &'static str {
        match self.method.as_ref().map(known) {
            None | Some(OTHER_METHOD) => "HTTP",
            Some(name) => name,
        }
    }

    /// Why the request did not end well: a reason of ours, or the status of the upstream.
    fn error_type(&self) -> Option<String> {
        let ours = self.broke_off() || (self.upstream_service_time_ms.is_none() && self.status >= 400);
        if self.flag == "DC" {
            Some("cancelled".to_owned())
        } else if ours || self.status == 0 {
            Some(self.reason.to_owned())
        } else {
            (self.status >= StatusCode::INTERNAL_SERVER_ERROR.as_u16()).then(|| self.status.to_string())
        }
    }

    /// The caller has a part of the response at most.
    fn broke_off(&self) -> bool {
        self.flag == "DC" || self.upstream_broke_off()
    }

    fn upstream_broke_off(&self) -> bool {
        self.outcome == Outcome::Failed && self.upstream_service_time_ms.is_some()
    }

    /// Whether this side did not do its part. A caller that goes away while it is being answered is no fault.
    fn is_fault(&self) -> bool {
        self.status == 0 || self.status >= 500 || self.upstream_broke_off() || self.is_grpc_fault()
    }

    /// What gRPC's conventions call the server's fault: unknown, deadline exceeded, unimplemented, internal, unavailable,
    /// data loss.
    fn is_grpc_fault(&self) -> bool {
        matches!(self.grpc_status, Some(2 | 4 | 12 | 13 | 14 | 15))
    }
}

fn server(all: &mut Attributes, authority: Option<&Authority>, default_port: u16) {
    let Some(authority) = authority else { return };
    all.text("server.address", authority.host().trim_start_matches('[').trim_end_matches(']'));
    all.number("server.port", authority.port_u16().unwrap_or(default_port));
}

/// The methods of RFC 9110 and RFC 5789.
fn known(method: &Method) -> &'static str {
    const KNOWN: [&str; 9] = ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"];
    KNOWN.into_iter().find(|known| *known == method.as_str()).unwrap_or(OTHER_METHOD)
}
