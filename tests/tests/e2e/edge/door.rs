//! A ledger behind its sidecar, and an edge in front of the mesh.

use std::net::SocketAddr;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use palisade_tests::client::{self, Answer};
use palisade_tests::outside;
use palisade_tests::{Outside, Sidecar, SidecarBuilder, Upstream};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::kit::{ALLOW_MESH, HTTP1, HTTP2, Mesh};

pub(crate) const HOST: &str = "api.bank.example";

/// One host in TLS, and in plaintext.
pub(crate) const GATEWAY: &str = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: public, namespace: payments}
spec:
  selector: {app: edge}
  servers:
  - {port: {number: 443, name: https, protocol: HTTPS}, hosts: [api.bank.example], tls: {mode: SIMPLE, credentialName: api}}
  - {port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}
";

/// Everything to the ledger.
pub(crate) const TO_LEDGER: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: api, namespace: payments}
spec:
  hosts: ['*']
  gateways: [public]
  http: [{name: all, route: [{destination: {host: ledger}}]}]
";

/// The edge lets everybody in: what it refuses then, it refuses for another reason.
pub(crate) const EVERYBODY: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: edge, namespace: payments}
spec: {selector: {matchLabels: {app: edge}}, action: ALLOW, rules: [{}]}
";

pub(crate) struct Door {
    pub(crate) mesh: Mesh,
    pub(crate) edge: Sidecar,
    pub(crate) outside: Outside,
}

impl Door {
    /// With these documents beside the Gateway, in plaintext and TLS.
    pub(crate) async fn open(documents: &str) -> Self {
        Self::with(&format!("{GATEWAY}---{EVERYBODY}---{documents}"), |edge| edge).await
    }

    /// Without a Gateway of its own, and with options.
    pub(crate) async fn with(
        documents: &str,
        options: impl FnOnce(SidecarBuilder) -> SidecarBuilder,
    ) -> Self {
        Self::speaking("http", documents, options).await
    }

    /// With a ledger that speaks this protocol.
    pub(crate) async fn speaking(
        protocol: &str,
        documents: &str,
        options: impl FnOnce(SidecarBuilder) -> SidecarBuilder,
    ) -> Self {
        let mesh = Mesh::serving(protocol, ALLOW_MESH).await;
        let outside = Outside::new("roots of the outside");
        let door = Prepared { mesh, outside };
        door.credential("api", &[HOST]);
        door.mesh.publish();
        door.mesh.world.policy("edge.yaml", documents);
        let edge = options(door.builder()).start().await;
        Self { mesh: door.mesh, edge, outside: door.outside }
    }

    pub(crate) fn app(&self) -> &Upstream {
        &self.mesh.app
    }

    pub(crate) fn plain(&self) -> SocketAddr {
        self.edge.edge(80)
    }

    /// A TLS connection that asks for the host.
    pub(crate) async fn connect(&self, alpn: &[&[u8]]) -> TlsStream<TcpStream> {
        outside::connect(self.edge.edge(443), HOST, self.outside.client(None, alpn)).await.unwrap()
    }

    /// One request over TLS and HTTP/1.1.
    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Answer {
        client::send_on(self.connect(HTTP1).await, request).await.unwrap()
    }

    pub(crate) async fn get(&self, target: &str) -> Answer {
        self.send(request("GET", target, "")).await
    }

    /// One request over TLS and HTTP/2.
    pub(crate) async fn send_h2(&self, request: Request<Full<Bytes>>) -> Answer {
        client::send_h2(self.connect(HTTP2).await, request).await.unwrap()
    }

    /// One request in plaintext.
    pub(crate) async fn send_plain(&self, request: Request<Full<Bytes>>) -> Answer {
        client::send(self.plain(), request).await
    }

    /// Raw bytes within TLS.
    pub(crate) async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect(HTTP1).await;
        String::from_utf8_lossy(&client::raw(&mut stream, bytes).await).into_owned()
    }

    /// Writes (or replaces) a credential.
    pub(crate) fn credential(&self, name: &str, hosts: &[&str]) {
        write_credential(&self.mesh, &self.outside, name, hosts);
    }
}

/// All but the edge.
struct Prepared {
    mesh: Mesh,
    outside: Outside,
}

impl Prepared {
    fn credential(&self, name: &str, hosts: &[&str]) {
        write_credential(&self.mesh, &self.outside, name, hosts);
    }

    fn builder(&self) -> SidecarBuilder {
        let credentials = self.mesh.world.folder().join("credentials").display().to_string();
        let builder = self.mesh.world.file_sidecar("payments/edge").edge();
        builder.listen(443).listen(80).arg("--credentials", &credentials)
    }
}

fn write_credential(mesh: &Mesh, outside: &Outside, name: &str, hosts: &[&str]) {
    let folder = mesh.world.folder().join("credentials").join(name);
    std::fs::create_dir_all(&folder).unwrap();
    let credential = outside.issue(hosts);
    for (file, text) in
        [("tls.crt", credential.chain), ("tls.key", credential.key), ("ca.crt", outside.root_pem())]
    {
        std::fs::write(folder.join(file), text).unwrap();
    }
}

/// A request to the host, origin-form.
pub(crate) fn request(method: &str, target: &str, body: &str) -> Request<Full<Bytes>> {
    request_to(HOST, method, target, body)
}

pub(crate) fn request_to(host: &str, method: &str, target: &str, body: &str) -> Request<Full<Bytes>> {
    let body = Full::new(Bytes::from(body.to_owned()));
    Request::builder().method(method).uri(target).header("host", host).body(body).unwrap()
}

/// The same for HTTP/2.
pub(crate) fn request_h2(method: &str, host: &str, target: &str, body: &str) -> Request<Full<Bytes>> {
    let body = Full::new(Bytes::from(body.to_owned()));
    Request::builder().method(method).uri(format!("https://{host}{target}")).body(body).unwrap()
}

/// Adds headers to a request.
pub(crate) fn with(
    mut request: Request<Full<Bytes>>,
    headers: &[(&'static str, &str)],
) -> Request<Full<Bytes>> {
    for (name, value) in headers {
        request.headers_mut().append(*name, value.parse().unwrap());
    }
    request
}
