//! What a refused caller is told: status, a title, an id to ask the operator about. Nothing about policy.

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Response, StatusCode};

use super::body::ResponseBody;
use super::headers::DECISION_ID;
use crate::error::Consequence;
use crate::telemetry::record::Record;

/// How the caller expects to be told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    pub(crate) grpc: bool,
    /// The caller's HTTP/1.1 connection cannot be used again.
    pub(crate) close: bool,
    /// Without a body: the answer to HEAD (RFC 9110 section 9.3.2), or one that must not wait for its reader.
    pub(crate) bare: bool,
}

/// The response for a failed request. The record is told status and reason, and rides along.
pub(crate) fn respond(
    consequence: &Consequence,
    told: HeaderMap,
    manner: Manner,
    mut record: Box<Record>,
) -> Response<ResponseBody> {
    let id = record.decision_id();
    let (status, content_type, text) = if manner.grpc {
        // gRPC over HTTP/2: a status of its own in a 200 without a body (Trailers-Only).
        (StatusCode::OK, "application/grpc", Bytes::new())
    } else {
        (consequence.status, "application/problem+json", problem(consequence, &id))
    };
    let text = if manner.bare { Bytes::new() } else { text };
    record.failed(consequence, status, manner.grpc);
    let mut response = Response::new(ResponseBody::own(text, record));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.extend(told);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    if let Ok(value) = HeaderValue::from_str(&id) {
        headers.insert(DECISION_ID, value);
    }
    if manner.grpc {
        headers.insert("grpc-status", HeaderValue::from(consequence.grpc_status));
        let message = format!("{} (decision {id})", consequence.title);
        if let Ok(value) = HeaderValue::from_str(&message) {
            headers.insert("grpc-message", value);
        }
    }
    if status == StatusCode::METHOD_NOT_ALLOWED {
        // RFC 9110 section 15.5.6.
        let served = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
        headers.entry(http::header::ALLOW).or_insert(served);
    }
    if manner.close {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn problem(consequence: &Consequence, id: &str) -> Bytes {
    // Both texts are ours: no escaping is needed.
    format!(
        r#"{{"type":"about:blank","title":"{}","status":{},"decision_id":"{id}"}}"#,
        consequence.title,
        consequence.status.as_u16(),
    )
    .into()
}
