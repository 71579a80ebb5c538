//! The HTTP/1.1 server that all services share.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::outbound::Outbound;
use super::{Call, Options, Reply, State};
use crate::ready_file;

/// From its sidecar and from curl.
const CONNECTIONS_MAX: usize = 256;
/// A transfer has some hundred bytes.
const BODY_BYTES_MAX: usize = 64 * 1024;
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// After a failed accept (no file descriptors left, say): a loop without a pause would burn a core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

pub(super) async fn run(options: Options) -> Result<()> {
    let listener = TcpListener::bind(options.listen)
        .await
        .with_context(|| format!("cannot listen on {}; choose another address", options.listen))?;
    let outbound = Outbound::new(options.http_proxy);
    let app =
        Arc::new(App { state: State::new(options.service, outbound)?, last: Mutex::new(Last::default()) });
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    if let Some(file) = &options.ready_file {
        ready_file::write(file, &json!({ "listen": listener.local_addr()?.to_string() }))?;
    }
    tokio::select! {
        () = accept(listener, app) => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// A service and what it was last asked.
#[derive(Debug)]
struct App {
    state: State,
    last: Mutex<Last>,
}

/// The last request, and how many there were.
#[derive(Debug, Default)]
struct Last {
    number: u64,
    seen: Value,
}

impl App {
    /// `GET /demo/last-request` says how the request before it came, and the how many-th it was: the scenes ask it on
    /// loopback. `GET /ready` is for health checks. Neither counts as a request.
    async fn answer(&self, call: &Call) -> Reply {
        match (&call.method, call.path.as_str()) {
            (&Method::GET, "/ready") => Reply(StatusCode::OK, json!({ "ready": true })),
            (&Method::GET, "/demo/last-request") => {
                let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
                Reply(StatusCode::OK, json!({ "number": last.number, "headers": last.seen }))
            }
            _ => {
                self.remember(call);
                self.state.answer(call).await
            }
        }
    }

    fn remember(&self, call: &Call) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Last { number: last.number + 1, seen: call.headers.clone() };
    }
}

async fn accept(listener: TcpListener, app: Arc<App>) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    while let Ok(slot) = slots.clone().acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _peer)) => {
                tokio::spawn(connection(stream, app.clone(), slot));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, app: Arc<App>, _slot: OwnedSemaphorePermit) {
    let handler = service_fn(move |request| {
        let app = app.clone();
        async move { Ok::<_, Infallible>(respond(&app, request).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), handler)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "connection ended");
    }
}

async fn respond(app: &App, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let Reply(status, body) = match read(request).await {
        Ok(call) => app.answer(&call).await,
        Err(refusal) => refusal,
    };
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}

async fn read(request: Request<Incoming>) -> Result<Call, Reply> {
    let (head, body) = request.into_parts();
    #[expect(clippy::disallowed_methods, reason = "limited")]
    let body = Limited::new(body, BODY_BYTES_MAX).collect().await;
    let body = body.map_err(|_too_large| Reply::wrong("the body is too large"))?.to_bytes();
    let body = if body.is_empty() {
        Value::Null
    } else {
        serde_json::from_slice(&body).map_err(|_malformed| Reply::wrong("the body is not JSON"))?
    };
    Ok(Call { method: head.method, path: head.uri.path().to_owned(), headers: headers(&head.headers), body })
}

/// As an object; bytes that are no text are replaced.
fn headers(map: &HeaderMap) -> Value {
    let text = |value: &http::HeaderValue| Value::from(String::from_utf8_lossy(value.as_bytes()));
    let one = |name: &http::HeaderName| {
        let mut values: Vec<Value> = map.get_all(name).iter().map(text).collect();
        let value = if values.len() > 1 { Value::Array(values) } else { values.pop().unwrap_or_default() };
        (name.as_str().to_owned(), value)
    };
    Value::Object(map.keys().map(one).collect())
}
