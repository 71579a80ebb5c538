//! The admin listener: loopback only, a few pages, nothing that changes anything and nothing secret.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::concurrency::AdaptiveLimits;
use crate::config::status::Status;
use crate::drain::Drain;
use crate::edge::certificates::Certificates;
use crate::health::Health;
use crate::identity::Clock;
use crate::limit::mesh;
use crate::live::Live;
use crate::run::RunError;
use crate::settings::control::ControlLimits;
use crate::telemetry::Telemetry;
use crate::upstream::cluster::Upstreams;

mod pages;
mod upstreams;

use pages::Whole;

/// What the pages are made of.
#[derive(Debug)]
pub(crate) struct Admin {
    pub(crate) live: Arc<Live>,
    pub(crate) status: Arc<Status>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) drain: Drain,
    pub(crate) telemetry: Telemetry,
    pub(crate) health: Arc<Health>,
    pub(crate) concurrency: Arc<AdaptiveLimits>,
    pub(crate) certificates: Arc<Certificates>,
    /// Whether there is a store for limits of scope `mesh`.
    pub(crate) store: bool,
    pub(crate) store_status: Arc<mesh::Status>,
    pub(crate) upstreams: Arc<Upstreams>,
}

/// A bound admin socket.
#[derive(Debug)]
pub(crate) struct AdminListener {
    listener: TcpListener,
    address: SocketAddr,
}

impl AdminListener {
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Binds the admin socket. `Settings::validate` has refused addresses other than loopback.
pub(crate) fn bind(address: SocketAddr) -> Result<AdminListener, RunError> {
    let refused = |error| RunError::Listen { what: "the admin listener", address, error };
    let socket = std::net::TcpListener::bind(address).map_err(refused)?;
    socket.set_nonblocking(true).map_err(refused)?;
    let listener = TcpListener::from_std(socket).map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    Ok(AdminListener { listener, address })
}

/// Answers until it is dropped.
pub(crate) async fn serve(listener: AdminListener, admin: Arc<Admin>, limits: &ControlLimits) {
    let slots = Arc::new(Semaphore::new(limits.admin_connections_max));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        match listener.listener.accept().await {
            Ok((stream, _peer)) => {
                connections.spawn(connection(stream, admin.clone(), limits.clone(), slot));
            }
            Err(error) => {
                tracing::warn!(%error, "the admin listener cannot accept; trying again shortly");
                sleep(crate::settings::limits::Limits::default().accept_pause).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, admin: Arc<Admin>, limits: ControlLimits, slot: OwnedSemaphorePermit) {
    let service = service_fn(move |request: Request<Incoming>| {
        let admin = admin.clone();
        async move { Ok::<_, Infallible>(answer(&request, &admin)) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.admin_timeout)
        .max_buf_size(limits.admin_head_bytes_max)
        // A new connection per page: no idle one holds a slot.
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    // The answer is in memory; a reader that does not take it is cut off.
    match timeout(limits.admin_timeout * 2, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "an admin connection failed"),
        Err(_elapsed) => tracing::debug!("an admin connection took too long"),
    }
    drop(slot);
}

fn answer<B>(request: &Request<B>, admin: &Admin) -> Response<Full<Bytes>> {
    if !is_for_this_host(request) {
        return page(StatusCode::MISDIRECTED_REQUEST, pages::TEXT, "ask by a loopback address\n".into());
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return page(StatusCode::METHOD_NOT_ALLOWED, pages::TEXT, "only GET\n".into());
    }
    match request.uri().path() {
        "/live" => page(StatusCode::OK, pages::JSON, "{\"live\":true}\n".into()),
        "/ready" => pages::ready(admin, Whole::Proxy),
        "/ready/application" => pages::ready(admin, Whole::WithApplication),
        "/metrics" => page(StatusCode::OK, pages::PROMETHEUS, pages::metrics(admin)),
        "/config" => pages::config(admin),
        "/certs" => pages::certificates(admin),
        "/upstreams" => pages::upstreams(admin),
        _ => {
            let known = "/live, /ready, /ready/application, /metrics, /config, /certs, /upstreams\n";
            page(StatusCode::NOT_FOUND, pages::TEXT, known.into())
        }
    }
}

/// A page in a browser can have a name of its own point at 127.0.0.1 (DNS rebinding) and read us; it cannot choose
/// the Host header.
fn is_for_this_host<B>(request: &Request<B>) -> bool {
    let host = request.headers().get(header::HOST).and_then(|value| value.to_str().ok());
    let Some(authority) = host.and_then(|host| host.parse::<Uri>().ok()?.into_parts().authority) else {
        return false;
    };
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn page(status: StatusCode, content_type: HeaderValue, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_loopback_hosts_and_no_others() {
        let rows = [
            ("127.0.0.1:15000", true),
            ("localhost", true),
            ("[::1]:15000", true),
            ("127.9.9.9", true),
            ("evil.example:15000", false),
            ("127.0.0.1.evil.example", false),
            ("10.0.0.1", false),
            ("", false),
        ];
        for (host, good) in rows {
            let request = Request::get("/ready").header("host", host).body(()).unwrap();
            assert_eq!(is_for_this_host(&request), good, "{host}");
        }
        assert!(!is_for_this_host(&Request::get("/ready").body(()).unwrap()));
    }
}
