//! A service whose health a test decides: asked for it by HTTP or gRPC, beside work that it counts.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version};
use http_body::Frame;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full, Limited, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

type Body = BoxBody<Bytes, Infallible>;

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    Well,
    /// Checks get this status; of gRPC NOT_SERVING.
    Ill(u16),
    /// Checks get no answer.
    Hangs,
    /// There is nobody at its port.
    Gone,
}

/// One check that came.
#[derive(Clone, Debug)]
pub struct Check {
    pub target: String,
    pub version: Version,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Checks are requests to `/healthz` and `/grpc.health.v1.Health/Check`. Everything else is work, done and answered with 200 however
/// it is, but for `/hold`: that is answered after `release`, and `/fail`: with 503.
#[derive(Debug)]
pub struct Patient {
    address: SocketAddr,
    state: Arc<State>,
    task: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct State {
    health: watch::Sender<Health>,
    released: watch::Sender<bool>,
    checks: Mutex<Vec<Check>>,
    /// By `x-id`.
    done: Mutex<BTreeMap<String, usize>>,
}

impl Patient {
    pub async fn start(health: Health) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let state = State {
            health: watch::Sender::new(health),
            released: watch::Sender::new(false),
            checks: Mutex::default(),
            done: Mutex::default(),
        };
        let patient =
            Self { address: listener.local_addr().unwrap(), state: state.into(), task: Mutex::default() };
        patient.open(listener);
        patient.becomes(health).await;
        patient
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub async fn becomes(&self, health: Health) {
        self.state.health.send_replace(health);
        let task = self.task.lock().unwrap().take();
        match (health, task) {
            (Health::Gone, Some(task)) => {
                task.abort();
                let _aborted = task.await;
            }
            (Health::Gone, None) => {}
            (_, None) => self.open(TcpListener::bind(self.address).await.unwrap()),
            (_, running) => *self.task.lock().unwrap() = running,
        }
    }

    fn open(&self, listener: TcpListener) {
        *self.task.lock().unwrap() = Some(tokio::spawn(accept(listener, self.state.clone())));
    }

    /// Requests to `/hold` get their answers.
    pub fn release(&self) {
        self.state.released.send_replace(true);
    }

    pub fn checks(&self) -> Vec<Check> {
        self.state.checks.lock().unwrap().clone()
    }

    /// How often each id came.
    pub fn done(&self) -> BTreeMap<String, usize> {
        self.state.done.lock().unwrap().clone()
    }
}

impl Drop for Patient {
    fn drop(&mut self) {
        if let Some(task) = self.task.lock().unwrap().take() {
            task.abort();
        }
    }
}

/// Aborting this task closes the listener and every connection.
async fn accept(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        let state = state.clone();
        connections.spawn(async move {
            let service = service_fn(|request| answer(request, state.clone()));
            let server = auto::Builder::new(TokioExecutor::new());
            let _ended = server.serve_connection(TokioIo::new(socket), service).await;
        });
    }
}

async fn answer(request: Request<Incoming>, state: Arc<State>) -> Result<Response<Body>, Infallible> {
    let (head, body) = request.into_parts();
    #[expect(clippy::disallowed_methods, reason = "limited")]
    let body = Limited::new(body, 1 << 20).collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let is_grpc = head.uri.path() == "/grpc.health.v1.Health/Check";
    if is_grpc || head.uri.path() == "/healthz" {
        let target = head.uri.to_string();
        let check = Check { target, version: head.version, headers: head.headers, body };
        state.checks.lock().unwrap().push(check);
        let health = *state.health.borrow();
        return Ok(match health {
            Health::Hangs | Health::Gone => std::future::pending().await,
            health if is_grpc => grpc(health == Health::Well),
            Health::Ill(status) => plain(status),
            Health::Well => plain(200),
        });
    }
    let id = head.headers.get("x-id").map_or("", |id| id.to_str().unwrap()).to_owned();
    *state.done.lock().unwrap().entry(id).or_default() += 1;
    if head.uri.path() == "/hold" {
        state.released.subscribe().wait_for(|released| *released).await.unwrap();
    }
    Ok(plain(if head.uri.path() == "/fail" { 503 } else { 200 }))
}

fn plain(status: u16) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from_static(b"ok")).boxed());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    if response.status().is_redirection() {
        response.headers_mut().insert("location", HeaderValue::from_static("/elsewhere"));
        *response.body_mut() = Empty::new().boxed();
    }
    response
}

/// SERVING or NOT_SERVING, as a server of gRPC writes it.
fn grpc(serving: bool) -> Response<Body> {
    let message = Bytes::from(vec![0, 0, 0, 0, 2, 8, if serving { 1 } else { 2 }]);
    let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static("0"))]);
    let frames = [Ok(Frame::data(message)), Ok(Frame::trailers(trailers))];
    let mut response = Response::new(BodyExt::boxed(StreamBody::new(futures_util::stream::iter(frames))));
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    response
}
