//! How a record is written: the names of its keys, in one place.

use std::time::SystemTime;

use http::uri::{Authority, PathAndQuery};
use http::{HeaderValue, Method, Version};
use jiff::Timestamp;
use palisade_identity::SpiffeId;
use palisade_policy::Refusal;
use palisade_policy::decision::{Grant, RuleRef};
use uuid::Uuid;

use super::{Outcome, Record};
use crate::telemetry::json::Object;

impl Record {
    pub(super) fn line(&self, out: &mut Vec<u8>, duration_ms: u64) {
        let mut o = Object::open(out);
        o.text("time", &time_text(self.at));
        o.text("decision_id", self.id.as_hyphenated().encode_lower(&mut Uuid::encode_buffer()));
        o.bytes("request_id", self.request_id.as_ref().map(HeaderValue::as_bytes));
        if let Some(trace) = &self.trace {
            o.text("trace_id", &trace.id_text());
            o.optional("span_id", trace.span_text().as_deref());
        }
        o.text("direction", self.direction.name());
        o.text("decision", self.outcome.text());
        o.text("reason", self.reason);
        o.optional("source_principal", self.source.as_ref().map(SpiffeId::as_str));
        o.optional("destination_principal", self.destination.as_ref().map(SpiffeId::as_str));
        o.optional("request_principal", self.request_principal.as_deref());
        o.text("source_address", &self.source_address.to_string());
        o.optional("method", self.method.as_ref().map(Method::as_str));
        o.optional("authority", self.authority.as_ref().map(Authority::as_str));
        o.optional("path", self.path.as_ref().map(PathAndQuery::path));
        o.text("protocol", if self.version == Version::HTTP_2 { "HTTP/2" } else { "HTTP/1.1" });
        o.text("route_name", self.route.as_deref().unwrap_or("default"));
        match &self.rule {
            Some(rule) => {
                o.text("policy", &format!("{}/{}", rule.namespace, rule.policy));
                o.number("rule", u64::try_from(rule.rule).unwrap_or(u64::MAX));
            }
            None => {
                o.null("policy");
                o.null("rule");
            }
        }
        if let Some(observations) = &self.observations {
            let audited: Vec<String> = observations.audited.iter().map(RuleRef::envoy_name).collect();
            o.optional("audited_by", (!audited.is_empty()).then(|| audited.join(",")).as_deref());
            o.optional("dry_run", observations.dry_run.as_ref().map(dry_run_text).as_deref());
        }
        if let Some(rule) = &self.path_kept_by {
            o.text("path_kept_by", &rule.envoy_name());
        }
        if let Some(limit) = &self.limits.refused {
            o.text("limit", limit);
        }
        o.optional("limit_store", self.limits.store);
        let verdicts = [("shadow_limits", &self.limits.shadow), ("flagged_by", &self.limits.flagged)];
        for (name, limits) in verdicts.into_iter().filter(|(_, limits)| !limits.is_empty()) {
            o.text(name, &limits.join(","));
        }
        o.number("policy_version", self.policy_version);
        o.number("response_code", self.status.into());
        match self.grpc_status {
            Some(status) => o.number("grpc_status", status.into()),
            None => o.null("grpc_status"),
        }
        o.text("response_flags", if self.flag.is_empty() { "-" } else { self.flag });
        o.text("response_code_details", &self.details);
        o.number("bytes_received", self.tally.received.get());
        o.number("bytes_sent", self.sent);
        o.number("duration_ms", duration_ms);
        match self.upstream_service_time_ms {
            Some(time) => o.number("upstream_service_time_ms", time),
            None => o.null("upstream_service_time_ms"),
        }
        o.optional("upstream_host", self.upstream_host.map(|host| host.to_string()).as_deref());
        o.optional("upstream_cluster", self.upstream_cluster.as_deref());
        let own_side = self.mesh_upstream.then_some("TLSv1.3");
        o.optional("tls_version", self.tls.or(own_side));
        o.text("connection_security_policy", if self.is_mutual() { "mutual_tls" } else { "none" });
        if let Some(client) = &self.client {
            o.optional("client_address", client.address.map(|address| address.to_string()).as_deref());
            o.optional("requested_server_name", client.server_name.as_deref());
            o.optional("client_certificate_sha256", client.certificate.as_deref());
        }
        o.number("retry_count", self.retries);
        if let Some(original) = &self.mirror_of {
            o.text("mirror_of", &original.to_string());
        }
        o.bytes("user_agent", self.user_agent.as_ref().map(HeaderValue::as_bytes));
        o.close();
    }
}

impl Outcome {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Unauthenticated => "unauthenticated",
            Self::Failed => "failed",
        }
    }
}

/// What dry-run policies alone would have decided, in the words of `response_code_details`.
fn dry_run_text(decision: &Result<Grant, Refusal>) -> String {
    match decision {
        Ok(Grant::Rule(rule)) => format!("allowed by {}", rule.envoy_name()),
        Ok(Grant::NoPolicy | Grant::KnownDestination) => "allowed".into(),
        Err(refusal) => refusal.response_code_details(),
    }
}

/// RFC 3339 with milliseconds.
fn time_text(at: SystemTime) -> String {
    Timestamp::try_from(at).map(|time| format!("{time:.3}")).unwrap_or_default()
}
