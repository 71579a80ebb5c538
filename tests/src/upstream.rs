//! A service behind a sidecar: answers as the path asks, and remembers what reached it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body::Frame;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

type Body = BoxBody<Bytes, hyper::Error>;

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Received {
    pub method: Method,
    /// Path and query.
    pub target: String,
    pub version: Version,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    pub trailers: Option<HeaderMap>,
    /// Whether the body came to its end.
    pub complete: bool,
}

/// Requests since the last `clear`. Those that were cleared away while they were being read are not kept any more.
#[derive(Debug, Default)]
struct Kept {
    /// How many were cleared away.
    first: usize,
    all: Vec<Received>,
}

impl Kept {
    fn change(&mut self, index: usize, change: impl FnOnce(&mut Received)) {
        if let Some(request) = index.checked_sub(self.first).and_then(|index| self.all.get_mut(index)) {
            change(request);
        }
    }
}

/// A service on a loopback port of its own, HTTP/1.1 and HTTP/2 with prior knowledge.
///
/// Paths: `/status/<code>`, `/bytes/<count>`, `/echo` (streams the body back as it comes, trailers too),
/// `/slow/<ms>`, `/drip/<count>` (one byte at a time, never ends early), `/headers` (then trailers), `/upgrade`, over HTTP/2
/// `/lengths/0` (`content-length: 04`) and `/lengths/1` (two equal ones).
/// Anything else: 200 and `hello from <name>`. Every request is also kept.
#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
    received: Arc<Mutex<Kept>>,
    task: JoinHandle<()>,
}

impl Upstream {
    pub async fn start(name: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let received = Arc::default();
        let task = tokio::spawn(accept(listener, Arc::from(name), Arc::clone(&received)));
        Self { address, received, task }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Everything that arrived, oldest first.
    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().all.clone()
    }

    /// The last request that arrived.
    pub fn last(&self) -> Received {
        self.received().pop().expect("nothing reached the upstream")
    }

    /// Asserts that nothing arrived, and says what did.
    pub fn assert_untouched(&self) {
        let received = self.received();
        assert!(received.is_empty(), "reached the upstream: {received:#?}");
    }

    pub fn clear(&self) {
        let mut kept = self.received.lock().unwrap();
        kept.first += kept.all.len();
        kept.all.clear();
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Aborting this task closes the listener and every connection.
async fn accept(listener: TcpListener, name: Arc<str>, received: Arc<Mutex<Kept>>) {
    let mut connections = JoinSet::new();
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        let (name, received) = (Arc::clone(&name), Arc::clone(&received));
        connections.spawn(async move {
            let service = service_fn(|request| answer(request, Arc::clone(&name), Arc::clone(&received)));
            let server = auto::Builder::new(TokioExecutor::new());
            let _ended = server.serve_connection_with_upgrades(TokioIo::new(socket), service).await;
        });
    }
}

/// Keeps a request; `complete` is set later, by index.
fn keep(request: &Request<Incoming>, received: &Mutex<Kept>) -> usize {
    let mut kept = received.lock().unwrap();
    kept.all.push(Received {
        method: request.method().clone(),
        target: request.uri().path_and_query().map_or_else(String::new, ToString::to_string),
        version: request.version(),
        headers: request.headers().clone(),
        body: Vec::new(),
        trailers: None,
        complete: false,
    });
    kept.first + kept.all.len() - 1
}

async fn answer(
    request: Request<Incoming>,
    name: Arc<str>,
    received: Arc<Mutex<Kept>>,
) -> Result<Response<Body>, Infallible> {
    let index = keep(&request, &received);
    let path = request.uri().path().to_owned();
    let (command, argument) = path[1..].split_once('/').unwrap_or((&path[1..], ""));
    let number = argument.parse::<u64>().unwrap_or(0);
    if command == "upgrade" && request.headers().contains_key(UPGRADE) {
        return Ok(upgrade(request));
    }
    if command == "echo" {
        let kind = request.headers().get(CONTENT_TYPE).cloned();
        let mut response = Response::new(echo(request.into_body(), index, received));
        response.headers_mut().extend(kind.map(|kind| (CONTENT_TYPE, kind)));
        return Ok(response);
    }
    let http2 = request.version() == Version::HTTP_2;
    read(request.into_body(), http2, index, &received).await;
    Ok(match command {
        "status" => {
            let mut response = text(format!("status {number}"));
            *response.status_mut() = StatusCode::from_u16(number.try_into().unwrap()).unwrap();
            response
        }
        "bytes" => Response::new(bytes(number)),
        "drip" => Response::new(drip(number)),
        "slow" => {
            tokio::time::sleep(Duration::from_millis(number)).await;
            text("slow".to_owned())
        }
        "headers" => {
            let mut response = text("with trailers".to_owned());
            response.headers_mut().append("x-many", HeaderValue::from_static("one"));
            response.headers_mut().append("x-many", HeaderValue::from_static("two"));
            response
        }
        "lengths" => {
            let mut response = text("good".to_owned());
            let lengths: &[&'static str] = if number == 0 { &["04"] } else { &["4", "4"] };
            for length in lengths {
                response.headers_mut().append(CONTENT_LENGTH, HeaderValue::from_static(length));
            }
            response
        }
        _ => text(format!("hello from {name}")),
    })
}

fn text(text: String) -> Response<Body> {
    Response::new(Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed())
}

fn bytes(count: u64) -> Body {
    const CHUNK: usize = 64 * 1024;
    let chunks = stream::unfold(count, |left| async move {
        let size = usize::try_from(left).unwrap().min(CHUNK);
        (size > 0).then(|| (Ok(Frame::data(Bytes::from(vec![b'x'; size]))), left - size as u64))
    });
    BodyExt::boxed(StreamBody::new(chunks))
}

fn drip(count: u64) -> Body {
    let chunks = stream::iter(0..count).then(|_| async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        Ok(Frame::data(Bytes::from_static(b".")))
    });
    BodyExt::boxed(StreamBody::new(chunks))
}

async fn read(mut body: Incoming, http2: bool, index: usize, received: &Mutex<Kept>) {
    let broke_off = loop {
        match body.frame().await {
            Some(Ok(frame)) => note(&frame, index, received),
            Some(Err(_)) => break true,
            // hyper takes an HTTP/2 reset with NO_ERROR or CANCEL for the end.
            None => break http2 && !http_body::Body::is_end_stream(&body),
        }
    };
    received.lock().unwrap().change(index, |request| request.complete = !broke_off);
}

fn note(frame: &Frame<Bytes>, index: usize, received: &Mutex<Kept>) {
    received.lock().unwrap().change(index, |request| {
        if let Some(data) = frame.data_ref() {
            request.body.extend_from_slice(data);
        }
        if let Some(trailers) = frame.trailers_ref() {
            request.trailers = Some(trailers.clone());
        }
    });
}

/// Sends every frame back as it comes, then a trailer, as a gRPC server does.
fn echo(body: Incoming, index: usize, received: Arc<Mutex<Kept>>) -> Body {
    let frames = stream::unfold((body, false), move |(mut body, ended)| {
        let received = Arc::clone(&received);
        async move {
            if ended {
                return None;
            }
            loop {
                match body.frame().await {
                    Some(Ok(frame)) => {
                        note(&frame, index, &received);
                        if frame.is_data() {
                            return Some((Ok(frame), (body, false)));
                        }
                    }
                    Some(Err(error)) => return Some((Err(error), (body, true))),
                    None => {
                        received.lock().unwrap().change(index, |request| request.complete = true);
                        let mut trailers = HeaderMap::new();
                        trailers.insert("grpc-status", HeaderValue::from_static("0"));
                        return Some((Ok(Frame::trailers(trailers)), (body, true)));
                    }
                }
            }
        }
    });
    BodyExt::boxed(StreamBody::new(frames))
}

/// Switches protocols and sends back what it is sent.
fn upgrade(request: Request<Incoming>) -> Response<Body> {
    let protocol = request.headers()[UPGRADE].clone();
    tokio::spawn(async move {
        let upgraded = hyper::upgrade::on(request).await.unwrap();
        let (mut reader, mut writer) = tokio::io::split(TokioIo::new(upgraded));
        let _ended = tokio::io::copy(&mut reader, &mut writer).await;
    });
    let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(UPGRADE, protocol);
    response.headers_mut().insert(http::header::CONNECTION, HeaderValue::from_static("upgrade"));
    response
}
