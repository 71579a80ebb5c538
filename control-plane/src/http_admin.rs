//! `/live`, `/ready` and `/metrics`, for the machine's own probes. Loopback only.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::context::Context;
use crate::metrics::Gauges;

const BUFFER_BYTES_MAX: usize = 16 * 1024;
const HEADERS_MAX: usize = 64;

pub(crate) async fn serve(context: Arc<Context>, listener: TcpListener) {
    let places = Arc::new(Semaphore::new(context.limits.http_admin_connections_max));
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await.ok()?;
            Some((listener.accept().await, place))
        };
        let accepted = tokio::select! {
            () = context.stop.cancelled() => return,
            accepted = next => accepted,
        };
        match accepted {
            None => return,
            Some((Ok((tcp, _)), place)) => {
                let context = Arc::clone(&context);
                context.tasks.clone().spawn(async move {
                    connection(context, tcp).await;
                    drop(place);
                });
            }
            Some((Err(error), _)) => {
                tracing::warn!(error = %error, "cannot accept a connection on the admin listener");
                tokio::time::sleep(context.limits.accept_error_pause).await;
            }
        }
    }
}

/// One request per connection: a probe needs no more, and an idle one holds no place.
async fn connection(context: Arc<Context>, tcp: TcpStream) {
    let timeout = context.limits.http_admin_timeout;
    let answering = Arc::clone(&context);
    let service = service_fn(move |request| {
        let context = Arc::clone(&answering);
        async move { Ok::<_, Infallible>(answer(&context, &request).await) }
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(timeout)
        .keep_alive(false)
        .max_buf_size(BUFFER_BYTES_MAX)
        .max_headers(HEADERS_MAX);
    let served = tokio::time::timeout(timeout, builder.serve_connection(TokioIo::new(tcp), service));
    tokio::select! {
        () = context.stop.cancelled() => {}
        _ = served => {}
    }
}

async fn answer(context: &Context, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    if request.method() != Method::GET {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".into());
    }
    match request.uri().path() {
        "/live" => text(StatusCode::OK, "live\n".into()),
        "/ready" => match context.store.objects().await {
            Ok(_) => text(StatusCode::OK, "ready\n".into()),
            Err(error) => {
                tracing::error!(error = %error, "not ready");
                text(StatusCode::SERVICE_UNAVAILABLE, "the store does not answer\n".into())
            }
        },
        "/metrics" => text(StatusCode::OK, context.metrics.render(gauges(context).await)),
        _ => text(StatusCode::NOT_FOUND, "there are /live, /ready and /metrics\n".into()),
    }
}

async fn gauges(context: &Context) -> Gauges {
    let world = context.hub.current();
    let proxies = context.registry.count();
    Gauges {
        proxies_connected: proxies.connected,
        proxies_ready: proxies.ready,
        proxies_unhealthy: proxies.unhealthy,
        policy_version: world.version,
        objects: context.policies.count().await,
        services: world.services.len(),
        tasks: tokio::runtime::Handle::current().metrics().num_alive_tasks(),
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let value = header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, value);
    response
}
