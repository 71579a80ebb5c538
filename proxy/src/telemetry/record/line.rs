//! How a record is written: the names of its keys, in one place.

use http::uri::{Authority, PathAndQuery};
use http::{HeaderValue, Method, Version};
use palisade_identity::SpiffeId;
use palisade_policy::Refusal;
use palisade_policy::decision::{Grant, RuleRef};
use uuid::Uuid;

use super::{Outcome, Record, millis};
use crate::telemetry::json::{Key, Object, key};

impl Record {
    fn protocol(&self) -> &'static str {
        match self.version {
            _ if self.tcp.is_some() => "TCP",
            Version::HTTP_2 => "HTTP/2",
            _ => "HTTP/1.1",
        }
    }

    pub(super) fn line(&self, out: &mut Vec<u8>, duration_ms: u64) {
        let mut o = Object::open(out);
        o.written(key!("time"), |out| self.worker.telemetry.second.write(self.at, out));
        o.known(key!("decision_id"), self.id.as_hyphenated().encode_lower(&mut Uuid::encode_buffer()));
        o.bytes(key!("request_id"), self.request_id.as_ref().map(HeaderValue::as_bytes));
        if let Some(trace) = &self.trace {
            o.known(key!("trace_id"), &trace.id_text());
            o.optional(key!("span_id"), trace.span_text().as_deref());
        }
        o.known(key!("direction"), self.direction.name());
        o.known(key!("decision"), self.outcome.text());
        o.known(key!("reason"), self.reason);
        id(&mut o, key!("source_principal"), self.source.as_ref());
        id(&mut o, key!("destination_principal"), self.destination.as_ref());
        o.optional(key!("request_principal"), self.request_principal.as_deref());
        o.address(key!("source_address"), self.source_address);
        o.optional(key!("method"), self.method.as_ref().map(Method::as_str));
        o.optional(key!("authority"), self.authority.as_ref().map(Authority::as_str));
        o.optional(key!("path"), self.path.as_ref().map(PathAndQuery::path));
        o.known(key!("protocol"), self.protocol());
        o.text(key!("route_name"), self.route.as_deref().unwrap_or("default"));
        match &self.rule {
            Some(rule) => {
                o.path(key!("policy"), &rule.namespace, &rule.policy);
                o.number(key!("rule"), u64::try_from(rule.rule).unwrap_or(u64::MAX));
            }
            None => {
                o.null(key!("policy"));
                o.null(key!("rule"));
            }
        }
        if let Some(observations) = &self.observations {
            let audited: Vec<String> = observations.audited.iter().map(RuleRef::envoy_name).collect();
            o.optional(key!("audited_by"), (!audited.is_empty()).then(|| audited.join(",")).as_deref());
            o.optional(key!("dry_run"), observations.dry_run.as_ref().map(dry_run_text).as_deref());
            if let Some(shadow) = &observations.shadow {
                o.known(key!("dry_run_effect"), shadow.effect.code());
                o.text(key!("dry_run_policy"), &shadow.by.to_string());
            }
        }
        if let Some(rule) = &self.path_kept_by {
            o.text(key!("path_kept_by"), &rule.envoy_name());
        }
        if let Some((first, known_by)) = &self.watched.duplicate_of {
            o.truth(key!("duplicate_delivery"));
            o.text(key!("duplicate_of"), &first.to_string());
            o.known(key!("duplicate_known_by"), known_by.name());
        }
        if let Some(limit) = &self.limits.refused {
            o.text(key!("limit"), limit);
        }
        o.optional(key!("limit_store"), self.limits.store);
        let verdicts =
            [(key!("shadow_limits"), &self.limits.shadow), (key!("flagged_by"), &self.limits.flagged)];
        for (name, limits) in verdicts.into_iter().filter(|(_, limits)| !limits.is_empty()) {
            o.text(name, &limits.join(","));
        }
        o.number(key!("policy_version"), self.policy_version);
        o.number(key!("response_code"), self.status.into());
        match self.grpc_status {
            Some(status) => o.number(key!("grpc_status"), status.into()),
            None => o.null(key!("grpc_status")),
        }
        let flags = self.flags();
        o.known(key!("response_flags"), if flags.is_empty() { "-" } else { &flags });
        o.text(key!("response_code_details"), &self.details);
        o.number(key!("bytes_received"), self.tally.received.get());
        o.number(key!("bytes_sent"), self.sent);
        o.number(key!("duration_ms"), duration_ms);
        match self.upstream_service_time_ms {
            Some(time) => o.number(key!("upstream_service_time_ms"), time),
            None => o.null(key!("upstream_service_time_ms")),
        }
        match self.upstream_host {
            Some(host) => o.address(key!("upstream_host"), host),
            None => o.null(key!("upstream_host")),
        }
        o.optional(key!("upstream_cluster"), self.upstream_cluster.as_deref());
        let own_side = self.mesh_upstream.then_some("TLSv1.3");
        o.optional(key!("tls_version"), self.tls.or(own_side));
        o.known(key!("connection_security_policy"), if self.is_mutual() { "mutual_tls" } else { "none" });
        if let Some(client) = &self.client {
            o.optional(key!("client_address"), client.address.map(|address| address.to_string()).as_deref());
            o.optional(key!("requested_server_name"), client.server_name.as_deref());
            o.optional(key!("client_certificate_sha256"), client.certificate.as_deref());
        }
        o.number(key!("retry_count"), self.retries);
        if let Some(fault) = &self.fault {
            o.text(key!("fault"), &fault.ids());
            o.text(key!("fault_type"), &fault.types());
            if let Some(delay) = fault.delay {
                o.number(key!("fault_delay_ms"), millis(delay));
            }
        }
        if let Some(original) = &self.mirror_of {
            o.text(key!("mirror_of"), &original.to_string());
        }
        o.bytes(key!("user_agent"), self.user_agent.as_ref().map(HeaderValue::as_bytes));
        o.close();
    }
}

/// The characters of an id need no escaping.
fn id(o: &mut Object<'_>, key: Key, id: Option<&SpiffeId>) {
    match id {
        Some(id) => o.known(key, id.as_str()),
        None => o.null(key),
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
