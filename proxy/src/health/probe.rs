//! One check: a connection of its own to the application, one question, one answer.

use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::header::{ACCEPT, CONTENT_TYPE, HOST, TE, USER_AGENT};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use tokio::net::TcpStream;

use super::{Cause, Failure};
use crate::settings::health::{HealthCheck, Question, Target};
use crate::telemetry::record::grpc_status;

/// An answer's head in bytes, its header lines, and what is read of its body.
const HEAD_BYTES_MAX: u16 = 16 * 1024;
const HEADERS_MAX: usize = 100;
const BODY_BYTES_MAX: usize = 64 * 1024;
/// So that applications can keep checks out of their logs.
const AGENT: &str = concat!("palisade-health-check/", env!("CARGO_PKG_VERSION"));

/// <https://github.com/grpc/grpc/blob/master/doc/health-checking.md>
const GRPC_CHECK: &str = "/grpc.health.v1.Health/Check";
/// A message of gRPC begins with a flag (compressed or not) and its length in four bytes.
const GRPC_PREFIX: usize = 5;
const GRPC_UNIMPLEMENTED: u16 = 12;
const SERVING: i32 = 1;

/// `grpc.health.v1.HealthCheckRequest`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct CheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

/// `grpc.health.v1.HealthCheckResponse`; its status is 1 for SERVING.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct CheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// Knows how to ask.
pub(super) struct Questioner<'c> {
    check: &'c HealthCheck,
    target: Target,
}

impl<'c> Questioner<'c> {
    pub(super) fn new(check: &'c HealthCheck, target: Target) -> Self {
        Self { check, target }
    }

    /// Asks once. How long that may take is the caller's to say.
    pub(super) async fn ask(&self) -> Result<(), Failure> {
        let stream = TcpStream::connect(self.target.address).await;
        let stream =
            stream.map_err(|error| self.failed(Cause::Connect, format_args!("no connection: {error}")))?;
        match &self.check.probe.question {
            Question::Tcp => Ok(()),
            Question::Http(path) => {
                let request = self.request(Method::GET, path.clone(), Bytes::new(), &self.check.headers)?;
                if self.target.http2 {
                    self.over_http2(stream, request).await
                } else {
                    self.over_http1(stream, request).await
                }
            }
            Question::Grpc(service) => {
                let trailers = (TE, HeaderValue::from_static("trailers"));
                let kind = (CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
                let path = PathAndQuery::from_static(GRPC_CHECK);
                let request = self.request(Method::POST, path, question(service), &[trailers, kind])?;
                self.over_http2(stream, request).await
            }
        }
    }

    /// Of a check that took longer than `limit`.
    pub(super) fn late(&self, limit: Duration) -> Failure {
        self.failed(Cause::Timeout, format_args!("no answer within {limit:?}"))
    }

    fn failed(&self, cause: Cause, why: impl std::fmt::Display) -> Failure {
        Failure { cause, words: format!("{} at {}: {why}", self.check.probe, self.target.address) }
    }

    fn protocol(&self, error: &dyn std::fmt::Display) -> Failure {
        self.failed(Cause::Protocol, error)
    }

    fn request(
        &self,
        method: Method,
        path: PathAndQuery,
        body: Bytes,
        headers: &[(HeaderName, HeaderValue)],
    ) -> Result<Request<Full<Bytes>>, Failure> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = Uri::from(path);
        let lines = request.headers_mut();
        lines.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        lines.insert(ACCEPT, HeaderValue::from_static("*/*"));
        let host = self.target.address.to_string().parse().map_err(|error| self.protocol(&error))?;
        lines.insert(HOST, host);
        for (name, _) in headers {
            lines.remove(name);
        }
        for (name, value) in headers {
            lines.append(name, value.clone());
        }
        Ok(request)
    }

    async fn over_http1(&self, stream: TcpStream, request: Request<Full<Bytes>>) -> Result<(), Failure> {
        let mut client = http1::Builder::new();
        client.max_buf_size(usize::from(HEAD_BYTES_MAX)).max_headers(HEADERS_MAX);
        let opened = client.handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = opened.map_err(|error| self.protocol(&error))?;
        self.while_open(connection, async {
            self.judge(sender.send_request(request).await.map_err(|error| self.protocol(&error))?).await
        })
        .await
    }

    async fn over_http2(&self, stream: TcpStream, mut request: Request<Full<Bytes>>) -> Result<(), Failure> {
        let host = request.headers_mut().remove(HOST);
        let authority = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        (parts.scheme, parts.authority) = (Some(Scheme::HTTP), authority);
        *request.uri_mut() = Uri::from_parts(parts).map_err(|error| self.protocol(&error))?;
        let mut client = http2::Builder::new(TokioExecutor::new());
        client.max_header_list_size(u32::from(HEAD_BYTES_MAX));
        let opened = client.handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = opened.map_err(|error| self.protocol(&error))?;
        self.while_open(connection, async {
            self.judge(sender.send_request(request).await.map_err(|error| self.protocol(&error))?).await
        })
        .await
    }

    /// Drives the connection until the answer is judged. It may end before that.
    async fn while_open(
        &self,
        connection: impl Future<Output = hyper::Result<()>>,
        asking: impl Future<Output = Result<(), Failure>>,
    ) -> Result<(), Failure> {
        let mut asking = std::pin::pin!(asking);
        tokio::select! {
            judged = &mut asking => judged,
            _ended = connection => asking.await,
        }
    }

    async fn judge(&self, response: Response<Incoming>) -> Result<(), Failure> {
        let (head, body) = response.into_parts();
        #[expect(clippy::disallowed_methods, reason = "limited to BODY_BYTES_MAX")]
        let body = Limited::new(body, BODY_BYTES_MAX).collect();
        match self.check.probe.question {
            Question::Grpc(_) => {
                let told = grpc_answer(&head.headers, head.status, async {
                    let body = body.await.map_err(|error| error.to_string())?;
                    let trailers = body.trailers().cloned().unwrap_or_default();
                    Ok((body.to_bytes(), trailers))
                });
                told.await.map_err(|(cause, why)| self.failed(cause, why))
            }
            Question::Http(_) | Question::Tcp => {
                let status = head.status.as_u16();
                if !(200..400).contains(&status) {
                    return Err(self.failed(Cause::Status, format_args!("status {status}")));
                }
                // The head has said it; the rest is read so that the application can write it.
                drop(body.await);
                Ok(())
            }
        }
    }
}

/// A message of gRPC that asks for `service`.
fn question(service: &str) -> Bytes {
    let message = CheckRequest { service: service.into() };
    let length = message.encoded_len();
    let mut bytes = BytesMut::with_capacity(GRPC_PREFIX.saturating_add(length));
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    bytes.put(message.encode_to_vec().as_slice());
    bytes.freeze()
}

/// What a call of gRPC says: its status stands in the head, or behind the message.
async fn grpc_answer(
    head: &HeaderMap,
    status: StatusCode,
    body: impl Future<Output = Result<(Bytes, HeaderMap), String>>,
) -> Result<(), (Cause, String)> {
    if status != StatusCode::OK {
        return Err((Cause::Status, format!("status {} instead of an answer of gRPC", status.as_u16())));
    }
    let (message, trailers) = match grpc_status(head) {
        Some(_) => (Bytes::new(), head.clone()),
        None => body.await.map_err(|error| (Cause::Protocol, error))?,
    };
    match grpc_status(&trailers) {
        Some(0) => {}
        Some(GRPC_UNIMPLEMENTED) => {
            let why = "the server has no grpc.health.v1.Health; register one, or check by tcp";
            return Err((Cause::GrpcStatus, why.into()));
        }
        Some(other) => return Err((Cause::GrpcStatus, format!("grpc-status {other}"))),
        None => return Err((Cause::Protocol, "an answer without grpc-status".into())),
    }
    match serving_status(&message) {
        Some(SERVING) => Ok(()),
        Some(2) => Err((Cause::NotServing, "NOT_SERVING".into())),
        Some(0) => Err((Cause::NotServing, "UNKNOWN".into())),
        Some(3) => Err((Cause::NotServing, "SERVICE_UNKNOWN".into())),
        Some(other) => Err((Cause::NotServing, format!("the unknown status {other}"))),
        None => Err((Cause::Protocol, "no HealthCheckResponse".into())),
    }
}

/// Of exactly one message that is not compressed: nothing was said of taking others.
fn serving_status(bytes: &Bytes) -> Option<i32> {
    let (prefix, message) = bytes.split_at_checked(GRPC_PREFIX)?;
    let length = u32::from_be_bytes(prefix.strip_prefix(&[0])?.try_into().ok()?);
    let whole = usize::try_from(length).is_ok_and(|length| length == message.len());
    CheckResponse::decode(message).ok().filter(|_| whole).map(|response| response.status)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(status: Option<u16>) -> HeaderMap {
        status
            .map(|status| (HeaderName::from_static("grpc-status"), HeaderValue::from(status)))
            .into_iter()
            .collect()
    }

    fn answer(
        head: Option<u16>,
        http: u16,
        message: &[u8],
        trailers: Option<u16>,
    ) -> Result<(), (Cause, String)> {
        let http = StatusCode::from_u16(http).unwrap();
        let body = std::future::ready(Ok((Bytes::copy_from_slice(message), headers(trailers))));
        let head = headers(head);
        let answer = std::pin::pin!(grpc_answer(&head, http, body));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match answer.poll(&mut context) {
            std::task::Poll::Ready(answer) => answer,
            std::task::Poll::Pending => panic!("nothing is waited for"),
        }
    }

    #[test]
    fn asks_for_a_service_as_grpc_has_it() {
        assert_eq!(question("").as_ref(), [0, 0, 0, 0, 0]);
        assert_eq!(question("abc").as_ref(), [0, 0, 0, 0, 5, 0x0a, 3, b'a', b'b', b'c']);
    }

    #[test]
    fn only_a_whole_answer_that_says_serving_is_good() {
        const SERVES: [u8; 7] = [0, 0, 0, 0, 2, 8, 1];
        assert_eq!(answer(None, 200, &SERVES, Some(0)), Ok(()));
        let rows: [(_, u16, &[u8], _, Cause, &str); 14] = [
            (None, 200, &[0, 0, 0, 0, 2, 8, 2], Some(0), Cause::NotServing, "NOT_SERVING"),
            (None, 200, &[0, 0, 0, 0, 0], Some(0), Cause::NotServing, "UNKNOWN"),
            (None, 200, &[0, 0, 0, 0, 2, 8, 3], Some(0), Cause::NotServing, "SERVICE_UNKNOWN"),
            (None, 200, &[0, 0, 0, 0, 2, 8, 9], Some(0), Cause::NotServing, "status 9"),
            (Some(12), 200, &[], None, Cause::GrpcStatus, "grpc.health.v1.Health"),
            (Some(5), 200, &[], None, Cause::GrpcStatus, "grpc-status 5"),
            (None, 200, &SERVES, Some(14), Cause::GrpcStatus, "grpc-status 14"),
            (Some(0), 200, &SERVES, Some(0), Cause::Protocol, "no HealthCheckResponse"),
            (None, 200, &SERVES, None, Cause::Protocol, "without grpc-status"),
            (None, 200, &SERVES[..6], Some(0), Cause::Protocol, "no HealthCheckResponse"),
            (None, 200, &[1, 0, 0, 0, 2, 8, 1], Some(0), Cause::Protocol, "no HealthCheckResponse"),
            (None, 200, &[0, 0, 0, 0, 2, 8, 1, 0], Some(0), Cause::Protocol, "no HealthCheckResponse"),
            (None, 200, &[0, 0, 0, 0, 2, 0xff, 0xff], Some(0), Cause::Protocol, "no HealthCheckResponse"),
            (None, 404, &SERVES, Some(0), Cause::Status, "status 404"),
        ];
        for (head, http, message, trailers, cause, part) in rows {
            let (found, words) = answer(head, http, message, trailers).unwrap_err();
            assert!(found == cause && words.contains(part), "{message:?}: {found:?} {words}");
        }
    }
}
