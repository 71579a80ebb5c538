//! OTLP over HTTP/1.1 (OTLP specification, section OTLP/HTTP).

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, HeaderValue, RETRY_AFTER, USER_AGENT};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message as _;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Fault;
use crate::settings::limits::Limits;
use crate::settings::trace::Collector;

const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");
pub(super) const AGENT: &str = concat!("palisade/", env!("CARGO_PKG_VERSION"));

pub(super) struct Link(SendRequest<Full<Bytes>>);

impl Link {
    pub(super) async fn over<S>(io: S) -> Result<Self, Fault>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (sender, connection) = http1::handshake(TokioIo::new(io)).await.map_err(Fault::passing)?;
        tokio::spawn(connection);
        Ok(Self(sender))
    }

    pub(super) fn is_open(&self) -> bool {
        !self.0.is_closed()
    }

    pub(super) async fn send(
        &mut self,
        collector: &Collector,
        limits: &Limits,
        request: &ExportTraceServiceRequest,
    ) -> Result<ExportTraceServiceResponse, Fault> {
        let endpoint = &collector.endpoint;
        let mut post = Request::post(if endpoint.path.is_empty() { "/" } else { &endpoint.path })
            .header(HOST, endpoint.authority())
            .header(USER_AGENT, AGENT)
            .header(CONTENT_TYPE, PROTOBUF)
            .body(Full::new(Bytes::from(request.encode_to_vec())))
            .map_err(Fault::lasting)?;
        for (name, value) in &collector.headers {
            post.headers_mut().insert(name, value.clone());
        }
        self.0.ready().await.map_err(Fault::passing)?;
        let response = self.0.send_request(post).await.map_err(Fault::passing)?;
        read(response, limits.span_answer_bytes_max).await
    }
}

async fn read(response: Response<Incoming>, bytes_max: usize) -> Result<ExportTraceServiceResponse, Fault> {
    let (head, body) = response.into_parts();
    #[expect(clippy::disallowed_methods, reason = "limited")]
    let body = Limited::new(body, bytes_max).collect().await;
    if !head.status.is_success() {
        let retry_after = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        return Err(Fault {
            why: format!("it answers {}{}", head.status, advice(head.status)),
            may_pass: matches!(head.status.as_u16(), 408 | 429 | 502 | 503 | 504),
            broken: false,
            retry_after: retry_after.map(Duration::from_secs),
        });
    }
    // Some collectors answer with nothing, or with JSON: taken is taken.
    let bytes = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let protobuf = head.headers.get(CONTENT_TYPE) == Some(&PROTOBUF);
    Ok(if protobuf { ExportTraceServiceResponse::decode(bytes).unwrap_or_default() } else { <_>::default() })
}

fn advice(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 | 403 => "; is OTEL_EXPORTER_OTLP_HEADERS right?",
        404 | 405 => "; is the path of --otlp-endpoint right?",
        413 => "; it takes no exports of this size",
        415 => "; does it take http/protobuf?",
        300..=399 => ", which is not followed",
        _ => "",
    }
}
