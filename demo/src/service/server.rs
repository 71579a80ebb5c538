//! The HTTP/1.1 server that all four services share.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};

use super::{Call, Options, Outbound, Reply, State};
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
    let outbound = Outbound { sidecar: options.sidecar, proxy: OnceCell::new() };
    let state = Arc::new(State::new(options.service, outbound));
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    ready_file::write(&options.ready_file, &json!({ "listen": listener.local_addr()?.to_string() }))?;
    tokio::select! {
        () = accept(listener, state) => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    while let Ok(slot) = slots.clone().acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _peer)) => {
                tokio::spawn(connection(stream, state.clone(), slot));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, state: Arc<State>, _slot: OwnedSemaphorePermit) {
    let handler = service_fn(move |request| {
        let state = state.clone();
        async move { Ok::<_, Infallible>(respond(&state, request).await) }
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

async fn respond(state: &State, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let Reply(status, body) = match read(request).await {
        Ok(call) => state.answer(&call).await,
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
    Ok(Call { method: head.method, path: head.uri.path().to_owned(), body })
}
