//! An OTLP receiver that keeps what it is sent, and answers what a test has it answer.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::Read as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use flate2::read::GzDecoder;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode as SpanStatus;
use prost::Message as _;
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use crate::outside::Outside;
use crate::wait::until;

const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// As a reader of traces sees it: ids in hex, attributes as text.
#[derive(Clone, Debug)]
pub struct Span {
    /// `service.name` of the resource.
    pub service: String,
    pub resource: BTreeMap<String, String>,
    pub scope: String,
    pub name: String,
    pub kind: SpanKind,
    pub trace: String,
    pub id: String,
    /// Empty: it has none.
    pub parent: String,
    pub state: String,
    pub links: Vec<(String, String)>,
    pub attributes: BTreeMap<String, String>,
    pub is_error: bool,
    /// Nanoseconds since 1970.
    pub start: u64,
    pub end: u64,
}

impl Span {
    /// Empty where there is none.
    pub fn attribute(&self, key: &str) -> &str {
        self.attributes.get(key).map_or("", String::as_str)
    }
}

#[derive(Debug)]
struct State {
    answer: StatusCode,
    /// Also of exports that were refused.
    heads: Vec<(String, HeaderMap)>,
    spans: Vec<Span>,
}

/// OTLP over HTTP/1.1, on a loopback port of its own.
#[derive(Debug)]
pub struct Collector {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

impl Collector {
    pub async fn start() -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap()).await
    }

    /// Where another one was before.
    pub async fn start_at(address: SocketAddr) -> Self {
        Self::start_with(address, None).await
    }

    /// In TLS, with a certificate of this CA for `localhost`.
    pub async fn start_tls(ca: &Outside) -> Self {
        let credential = ca.issue(&["localhost"]);
        let chain = CertificateDer::pem_slice_iter(credential.chain.as_bytes()).map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_slice(credential.key.as_bytes()).unwrap();
        let config = ServerConfig::builder_with_provider(palisade_certs::tls::provider());
        let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let acceptor = TlsAcceptor::from(Arc::new(config.with_single_cert(chain, key).unwrap()));
        Self::start_with("127.0.0.1:0".parse().unwrap(), Some(acceptor)).await
    }

    async fn start_with(address: SocketAddr, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = State { answer: StatusCode::OK, heads: Vec::new(), spans: Vec::new() };
        let state = Arc::new(Mutex::new(state));
        let task = tokio::spawn(accept(listener, tls, state.clone()));
        Self { address, state, task }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What the next exports are answered. Only those answered 200 are kept.
    pub fn answers(&self, status: StatusCode) {
        self.state.lock().unwrap().answer = status;
    }

    /// Path and headers of every export.
    pub fn heads(&self) -> Vec<(String, HeaderMap)> {
        self.state.lock().unwrap().heads.clone()
    }

    pub fn spans(&self) -> Vec<Span> {
        self.state.lock().unwrap().spans.clone()
    }

    /// Waits for the spans of a trace, at least `count` of them, in the order of their start.
    pub async fn trace(&self, id: &str, count: usize) -> Vec<Span> {
        until("the spans of a trace", || async {
            let mut spans = self.spans();
            spans.retain(|span| span.trace == id);
            spans.sort_by_key(|span| span.start);
            if spans.len() >= count { Ok(spans) } else { Err(format!("{id}: {:#?}", self.spans())) }
        })
        .await
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, state: Arc<Mutex<State>>) {
    let mut connections = JoinSet::new();
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        let (state, tls) = (state.clone(), tls.clone());
        connections.spawn(async move {
            let service = service_fn(|request| take(request, state.clone()));
            let server = hyper::server::conn::http1::Builder::new();
            match tls {
                None => drop(server.serve_connection(TokioIo::new(socket), service).await),
                Some(tls) => {
                    let Ok(socket) = tls.accept(socket).await else { return };
                    drop(server.serve_connection(TokioIo::new(socket), service).await);
                }
            }
        });
    }
}

async fn take(
    request: Request<Incoming>,
    state: Arc<Mutex<State>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    #[expect(clippy::disallowed_methods, reason = "limited")]
    let body = Limited::new(body, BODY_BYTES_MAX).collect().await.unwrap().to_bytes();
    let body = if head.headers.get("content-encoding").is_some_and(|coding| coding == "gzip") {
        let mut plain = Vec::new();
        GzDecoder::new(&*body).take(BODY_BYTES_MAX as u64).read_to_end(&mut plain).unwrap();
        plain.into()
    } else {
        body
    };
    let mut state = state.lock().unwrap();
    state.heads.push((head.uri.path().to_owned(), head.headers));
    let mut response = Response::new(Full::default());
    *response.status_mut() = state.answer;
    if state.answer == StatusCode::OK {
        state.spans.extend(read(ExportTraceServiceRequest::decode(body).unwrap()));
        response.headers_mut().insert("content-type", "application/x-protobuf".parse().unwrap());
    }
    Ok(response)
}

fn read(request: ExportTraceServiceRequest) -> Vec<Span> {
    let mut all = Vec::new();
    for of_resource in request.resource_spans {
        let resource = texts(of_resource.resource.unwrap().attributes);
        for of_scope in of_resource.scope_spans {
            let scope = of_scope.scope.map(|scope| scope.name).unwrap_or_default();
            for span in of_scope.spans {
                all.push(Span {
                    service: resource["service.name"].clone(),
                    resource: resource.clone(),
                    scope: scope.clone(),
                    kind: span.kind(),
                    is_error: span.status.is_some_and(|status| status.code() == SpanStatus::Error),
                    trace: hex(&span.trace_id),
                    id: hex(&span.span_id),
                    parent: hex(&span.parent_span_id),
                    state: span.trace_state,
                    links: span.links.iter().map(|link| (hex(&link.trace_id), hex(&link.span_id))).collect(),
                    attributes: texts(span.attributes),
                    name: span.name,
                    start: span.start_time_unix_nano,
                    end: span.end_time_unix_nano,
                });
            }
        }
    }
    all
}

fn texts(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |attribute: KeyValue| match attribute.value.unwrap().value.unwrap() {
        Value::StringValue(text) => (attribute.key, text),
        Value::IntValue(number) => (attribute.key, number.to_string()),
        other => panic!("{}: {other:?}", attribute.key),
    };
    attributes.into_iter().map(text).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
