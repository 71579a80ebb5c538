//! What is done to requests on purpose, to see what becomes of them.

use std::sync::Arc;
use std::time::Duration;

/// The faults that one rule asks for. Each is drawn on its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Who asks for it: the route's id. Records and traces name it.
    pub id: Arc<str>,
    pub delay: Option<Delay>,
    pub abort: Option<Abort>,
}

/// The request waits before it is sent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delay {
    /// Of a million requests.
    pub share_ppm: u32,
    pub length: Duration,
}

/// The request is answered and not sent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abort {
    /// Of a million requests.
    pub share_ppm: u32,
    pub answer: AbortAnswer,
}

/// What the caller gets. Callers of the other protocol get what stands for it there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AbortAnswer {
    /// 200 to 599.
    Http(u16),
    /// 0 to 16, <https://grpc.github.io/grpc/core/md_doc_statuscodes.html>.
    Grpc(u16),
}

impl AbortAnswer {
    /// The status in HTTP, and the one in gRPC.
    pub fn statuses(self) -> (u16, u16) {
        match self {
            Self::Http(status) => (status, grpc_of_http(status)),
            Self::Grpc(status) => (http_of_grpc(status), status),
        }
    }
}

/// <https://grpc.github.io/grpc/core/md_doc_http-grpc-status-mapping.html>; what succeeds there succeeds here.
fn grpc_of_http(status: u16) -> u16 {
    match status {
        200..=299 => 0,
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

/// The HTTP status that stands for one of gRPC, as `google.rpc.Code` says it, which gateways between the two go by.
pub fn http_of_grpc(status: u16) -> u16 {
    match status {
        0 => 200,
        1 => 499,
        3 | 9 | 11 => 400,
        4 => 504,
        5 => 404,
        6 | 10 => 409,
        7 => 403,
        8 => 429,
        12 => 501,
        14 => 503,
        16 => 401,
        _ => 500,
    }
}

/// The names of gRPC's statuses, each at its number.
pub const GRPC_STATUSES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_protocol_has_a_status_for_the_other_ones() {
        let rows = [
            (AbortAnswer::Http(503), (503, 14)),
            (AbortAnswer::Http(404), (404, 12)),
            (AbortAnswer::Http(500), (500, 2)),
            (AbortAnswer::Http(200), (200, 0)),
            (AbortAnswer::Http(418), (418, 2)),
            (AbortAnswer::Grpc(14), (503, 14)),
            (AbortAnswer::Grpc(8), (429, 8)),
            (AbortAnswer::Grpc(2), (500, 2)),
            (AbortAnswer::Grpc(0), (200, 0)),
        ];
        for (answer, statuses) in rows {
            assert_eq!(answer.statuses(), statuses, "{answer:?}");
        }
    }
}
