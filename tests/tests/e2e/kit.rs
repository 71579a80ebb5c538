//! The mesh most tests use: `payments/ledger` behind a sidecar, made of files, and callers of every kind.

use std::net::SocketAddr;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use palisade_certs::Svid;
use palisade_tests::client::{self, Answer};
pub(crate) use palisade_tests::documents::service_entry;
use palisade_tests::wait::DEADLINE;
use palisade_tests::world::expecting;
use palisade_tests::{Sidecar, SidecarBuilder, Upstream, World};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use crate::PALISADE;

/// What every caller names the service by.
pub(crate) const LEDGER: &str = "ledger.payments:8080";
pub(crate) const HTTP1: &[&[u8]] = &[b"http/1.1"];
pub(crate) const HTTP2: &[&[u8]] = &[b"h2"];

/// Nothing in plaintext, mesh-wide.
pub(crate) const STRICT: &str = "
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: palisade-system}
spec: {mtls: {mode: STRICT}}
";

/// In plaintext, too, mesh-wide.
pub(crate) const PERMISSIVE: &str = "
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: palisade-system}
spec: {mtls: {mode: PERMISSIVE}}
";

/// Callers with a certificate may do anything.
pub(crate) const ALLOW_MESH: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: allow-mesh, namespace: palisade-system}
spec: {action: ALLOW, rules: [{from: [{source: {principals: ['*']}}]}]}
";

/// Nothing, for nobody.
pub(crate) const DENY_ALL: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: default-deny, namespace: palisade-system}
spec: {}
";

/// A service behind its sidecar, in a mesh of files.
pub(crate) struct Mesh {
    pub(crate) world: World,
    pub(crate) app: Upstream,
    pub(crate) sidecar: Sidecar,
    protocol: String,
}

impl Mesh {
    /// STRICT, and whatever these documents allow.
    pub(crate) async fn start(policies: &str) -> Self {
        Self::serving("http", policies).await
    }

    pub(crate) async fn open() -> Self {
        Self::start(ALLOW_MESH).await
    }

    pub(crate) async fn serving(protocol: &str, policies: &str) -> Self {
        Self::build(protocol, policies, |builder| builder).await
    }

    /// With options for the sidecar.
    pub(crate) async fn start_with(
        policies: &str,
        options: impl FnOnce(SidecarBuilder) -> SidecarBuilder,
    ) -> Self {
        Self::build("http", policies, options).await
    }

    async fn build(
        protocol: &str,
        policies: &str,
        options: impl FnOnce(SidecarBuilder) -> SidecarBuilder,
    ) -> Self {
        let world = World::of_files(PALISADE);
        let app = Upstream::start("ledger").await;
        world.policy("strict.yaml", STRICT);
        world.policy("policies.yaml", policies);
        let builder = options(world.file_sidecar("payments/ledger"));
        let sidecar = builder.serve_as(8080, protocol, app.address()).start().await;
        Self { world, app, sidecar, protocol: protocol.to_uppercase() }
    }

    pub(crate) fn inbound(&self) -> SocketAddr {
        self.sidecar.inbound(8080)
    }

    /// A mutual TLS connection as a workload of the mesh.
    pub(crate) async fn connect(&self, workload: &str, alpn: &[&[u8]]) -> TlsStream<TcpStream> {
        self.connect_as(&self.world.pki.svid(workload), alpn).await
    }

    pub(crate) async fn connect_as(&self, svid: &Svid, alpn: &[&[u8]]) -> TlsStream<TcpStream> {
        let expected = expecting("payments/ledger");
        client::connect_tls(self.inbound(), Some(svid), &self.world.pki.bundle, expected, alpn).await.unwrap()
    }

    /// One HTTP/1.1 request as a workload, on a connection of its own.
    pub(crate) async fn call(&self, workload: &str, request: Request<Full<Bytes>>) -> Answer {
        client::send_on(self.connect(workload, HTTP1).await, request).await.unwrap()
    }

    /// One HTTP/2 request as a workload, on a connection of its own.
    pub(crate) async fn call_h2(&self, workload: &str, request: Request<Full<Bytes>>) -> Answer {
        client::send_h2(self.connect(workload, HTTP2).await, request).await.unwrap()
    }

    /// Raw bytes as a workload, inside mutual TLS.
    pub(crate) async fn raw(&self, workload: &str, bytes: &[u8]) -> String {
        let mut stream = self.connect(workload, HTTP1).await;
        String::from_utf8_lossy(&client::raw(&mut stream, bytes).await).into_owned()
    }

    /// Where the mesh finds the service: needed by callers' sidecars.
    pub(crate) fn publish(&self) {
        self.world.policy("ledger.yaml", &service_entry("ledger", self.inbound(), &self.protocol));
    }

    /// A sidecar for `payments/web` with an `HTTP_PROXY`, ready to call the ledger.
    pub(crate) async fn caller(&self) -> Sidecar {
        self.publish();
        self.world.file_sidecar("payments/web").outbound().start().await
    }
}

/// A request as one peer sends it to another: origin-form.
pub(crate) fn request(method: &str, target: &str, body: &str) -> Request<Full<Bytes>> {
    let body = Full::new(Bytes::from(body.to_owned()));
    Request::builder().method(method).uri(target).header("host", LEDGER).body(body).unwrap()
}

/// The same for HTTP/2.
pub(crate) fn request_h2(method: &str, target: &str, body: &str) -> Request<Full<Bytes>> {
    let body = Full::new(Bytes::from(body.to_owned()));
    Request::builder().method(method).uri(format!("http://{LEDGER}{target}")).body(body).unwrap()
}

pub(crate) fn get(target: &str) -> Request<Full<Bytes>> {
    request("GET", target, "")
}

pub(crate) fn url(target: &str) -> String {
    format!("http://{LEDGER}{target}")
}

/// Asks for a WebSocket on a connection of its own, with more lines of headers, and reads the head of the answer.
pub(crate) async fn upgrade(caller: &Sidecar, more: &str) -> (TcpStream, String) {
    let mut socket = TcpStream::connect(caller.http_proxy()).await.unwrap();
    let head = format!(
        "GET {} HTTP/1.1\r\nhost: {LEDGER}\r\n{more}connection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n",
        url("/upgrade")
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(timeout(DEADLINE, socket.read_u8()).await.unwrap().unwrap());
    }
    (socket, String::from_utf8(answer).unwrap())
}
