//! Who called whom, and how, in the labels of a series.

use std::fmt::Write as _;

use palisade_identity::SpiffeId;

use super::Series;
use crate::telemetry::record::flags;
use crate::worker::Direction;

/// Istio's standard labels. Names of workloads hold letters, digits, `.`, `-` and `_` only, so nothing needs escapes.
pub(super) fn labels(series: &Series) -> String {
    let grpc_status = series.grpc_status.map(|status| status.to_string()).unwrap_or_default();
    let mut out = parties(series);
    let _infallible = write!(
        out,
        ",request_protocol=\"{}\",response_code=\"{}\",grpc_response_status=\"{grpc_status}\"",
        if series.grpc { "grpc" } else { "http" },
        series.status,
    );
    manner(&mut out, series);
    out
}

/// Who called whom, and who says so.
pub(super) fn parties(series: &Series) -> String {
    let reporter = match series.direction {
        Direction::Inbound => "destination",
        // Istio's gateways report as the source of what they send on.
        Direction::Outbound | Direction::Edge => "source",
    };
    let mut out = format!("reporter=\"{reporter}\"");
    party(&mut out, "source", series.source.as_ref());
    party(&mut out, "destination", series.destination.as_ref());
    let service = series.service.as_deref().unwrap_or("unknown");
    let (service_name, service_namespace) = service.split_once('.').unwrap_or((service, "unknown"));
    let _infallible = write!(
        out,
        ",destination_service=\"{service}\",destination_service_name=\"{service_name}\",\
         destination_service_namespace=\"{service_namespace}\"",
    );
    out
}

pub(super) fn manner(out: &mut String, series: &Series) {
    let flags = flags(series.flag, series.delayed);
    let _infallible = write!(
        out,
        ",response_flags=\"{}\",connection_security_policy=\"{}\"",
        if flags.is_empty() { "-" } else { &*flags },
        if series.tls { "mutual_tls" } else { "none" },
    );
}

pub(super) fn party(out: &mut String, side: &str, id: Option<&SpiffeId>) {
    let workload = id.and_then(SpiffeId::workload);
    let name = workload.map_or("unknown", |workload| workload.service_account.as_str());
    let namespace = workload.map_or("unknown", |workload| workload.namespace.as_str());
    let principal = id.map_or("unknown", SpiffeId::as_str);
    let _infallible = write!(
        out,
        ",{side}_workload=\"{name}\",{side}_workload_namespace=\"{namespace}\",{side}_principal=\"{principal}\",\
         {side}_app=\"{name}\",{side}_canonical_service=\"{name}\""
    );
}
