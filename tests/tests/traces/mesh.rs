//! `web` and `ledger` behind their sidecars, and an edge in front: a request for `web` has it ask `ledger`.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use palisade_tests::documents::service_entry;
use palisade_tests::{Sidecar, SidecarBuilder, Upstream, World, client};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::PALISADE;

const POLICIES: &str = "
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: palisade-system}
spec: {mtls: {mode: STRICT}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: all, namespace: palisade-system}
spec: {action: ALLOW, rules: [{}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: public, namespace: payments}
spec:
  selector: {app: edge}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: public, namespace: payments}
spec: {hosts: ['*'], gateways: [public], http: [{name: all, route: [{destination: {host: web}}]}]}
";

pub(crate) struct Mesh {
    _world: World,
    _sidecars: [Sidecar; 2],
    _web: JoinHandle<()>,
    ledger: Upstream,
    pub(crate) edge: Sidecar,
}

impl Mesh {
    /// `options` for all proxies, and flags for the edge.
    pub(crate) async fn start(options: &[(&str, &str)], flags: &[&str]) -> Self {
        let traced =
            |builder: SidecarBuilder| options.iter().fold(builder, |b, (name, value)| b.arg(name, value));
        let world = World::of_files(PALISADE);
        world.policy("all.yaml", POLICIES);
        let ledger = Upstream::start("ledger").await;
        let of_ledger =
            traced(world.file_sidecar("payments/ledger").serve(8080, ledger.address())).start().await;
        world.policy("ledger.yaml", &service_entry("ledger", of_ledger.inbound(8080), "HTTP"));
        // An application that passes its caller's trace on, as instrumented ones do.
        let (way_out, known) = watch::channel(None);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let web = tokio::spawn(application(listener, known));
        let of_web = traced(world.file_sidecar("payments/web").serve(8080, address).outbound()).start().await;
        way_out.send_replace(Some(of_web.http_proxy()));
        world.policy("web.yaml", &service_entry("web", of_web.inbound(8080), "HTTP"));
        let edge = traced(world.file_sidecar("payments/edge").edge().listen(80));
        let edge = flags.iter().fold(edge, |edge, flag| edge.flag(flag)).start().await;
        Self { _world: world, _sidecars: [of_ledger, of_web], _web: web, ledger, edge }
    }

    /// A request from outside.
    pub(crate) async fn ask(&self, headers: &[(&'static str, &str)]) -> StatusCode {
        let mut request = client::request("GET", "http://api.example/", "");
        *request.uri_mut() = "/".parse().unwrap();
        for (name, value) in headers {
            request.headers_mut().append(*name, value.parse().unwrap());
        }
        client::send(self.edge.edge(80), request).await.status
    }

    /// The `traceparent` of the last request that reached the ledger.
    pub(crate) fn told(&self) -> String {
        self.ledger.last().headers["traceparent"].to_str().unwrap().to_owned()
    }
}

async fn application(listener: TcpListener, way_out: watch::Receiver<Option<SocketAddr>>) {
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        let proxy = way_out.borrow().expect("the sidecar runs before it is called");
        tokio::spawn(async move {
            let service = service_fn(move |request| ask_ledger(proxy, request));
            let server = hyper::server::conn::http1::Builder::new();
            let _ended = server.serve_connection(TokioIo::new(socket), service).await;
        });
    }
}

async fn ask_ledger(
    proxy: SocketAddr,
    received: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut request = client::request("GET", "http://ledger.payments:8080/", "");
    let parent: Option<HeaderValue> = received.headers().get("traceparent").cloned();
    request.headers_mut().extend(parent.map(|parent| (http::HeaderName::from_static("traceparent"), parent)));
    let answer = client::send(proxy, request).await;
    let mut response = Response::new(Full::new(answer.body));
    *response.status_mut() = answer.status;
    Ok(response)
}
