//! A sidecar and the services outside the mesh that its application calls.

use std::net::SocketAddr;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use palisade_tests::client::{self, Answer};
use palisade_tests::{Sidecar, SidecarBuilder, World};

use crate::PALISADE;

/// A sidecar whose application calls `bank.example` in plaintext.
pub(crate) struct Caller {
    pub(crate) world: World,
    pub(crate) sidecar: Sidecar,
}

impl Caller {
    /// With these endpoints, in `protocol`, and further documents.
    pub(crate) async fn of(endpoints: &[SocketAddr], protocol: &str, documents: &str) -> Self {
        Self::with(endpoints, protocol, documents, 2).await
    }

    pub(crate) async fn with(
        endpoints: &[SocketAddr],
        protocol: &str,
        documents: &str,
        workers: usize,
    ) -> Self {
        Self::start(endpoints, protocol, documents, |sidecar| sidecar.workers(workers)).await
    }

    /// With options of its sidecar.
    pub(crate) async fn start(
        endpoints: &[SocketAddr],
        protocol: &str,
        documents: &str,
        options: impl FnOnce(SidecarBuilder) -> SidecarBuilder,
    ) -> Self {
        let world = World::of_files(PALISADE);
        world.policy("bank.yaml", &bank(endpoints, protocol));
        if !documents.is_empty() {
            world.policy("more.yaml", documents);
        }
        let sidecar = options(world.file_sidecar("payments/web").outbound()).start().await;
        Self { world, sidecar }
    }

    pub(crate) async fn call(&self, method: &str, id: &str, body: &str) -> Answer {
        self.send(request(method, id, body)).await
    }

    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Answer {
        client::send(self.sidecar.http_proxy(), request).await
    }
}

/// To the bank, with an id.
pub(crate) fn request(method: &str, id: &str, body: &str) -> Request<Full<Bytes>> {
    let mut request = client::request(method, "http://bank.example/transfers", body);
    request.headers_mut().insert("x-id", id.parse().unwrap());
    request
}

/// The service outside the mesh.
pub(crate) fn bank(endpoints: &[SocketAddr], protocol: &str) -> String {
    let each = |at: &SocketAddr| format!("{{address: {}, ports: {{main: {}}}}}", at.ip(), at.port());
    let endpoints: Vec<_> = endpoints.iter().map(each).collect();
    format!(
        "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: bank, namespace: payments}}
spec:
  hosts: [bank.example]
  location: MESH_EXTERNAL
  resolution: STATIC
  ports: [{{number: 80, name: main, protocol: {protocol}}}]
  endpoints: [{}]
",
        endpoints.join(", ")
    )
}

/// A port at which nobody listens.
pub(crate) fn nobody() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}
