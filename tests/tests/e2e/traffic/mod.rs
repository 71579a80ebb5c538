//! What VirtualServices make of calls: an application, its sidecar, and services outside the mesh in plaintext, so that
//! what a sidecar sends is seen as it is.

mod faults;
mod routes;

use std::net::SocketAddr;

use http::Request;
use http_body_util::Full;
use palisade_tests::client::{self, Answer};
use palisade_tests::{Sidecar, SidecarBuilder, Upstream, World};

use crate::PALISADE;
use crate::edge::routes::external_as;

/// The host of the service that is called.
pub(crate) const BANK: &str = "bank.example";

/// An application's sidecar, and a service that it calls.
pub(crate) struct Caller {
    pub(crate) world: World,
    pub(crate) bank: Upstream,
    pub(crate) sidecar: Sidecar,
}

impl Caller {
    /// `http`: the routes for the bank, a line each.
    pub(crate) async fn routed(http: &str) -> Self {
        Self::start("HTTP", &calls("payments", BANK, http), |sidecar| sidecar).await
    }

    /// `protocol`: the bank's, on its port 80.
    pub(crate) async fn start(
        protocol: &str,
        documents: &str,
        options: impl FnOnce(SidecarBuilder) -> SidecarBuilder,
    ) -> Self {
        let world = World::of_files(PALISADE);
        let bank = Upstream::start("bank").await;
        world.policy("bank.yaml", &external_as(BANK, bank.address(), protocol));
        world.policy("routes.yaml", documents);
        let sidecar = options(world.file_sidecar("payments/web").outbound()).start().await;
        Self { world, bank, sidecar }
    }

    pub(crate) fn proxy(&self) -> SocketAddr {
        self.sidecar.http_proxy()
    }

    pub(crate) async fn get(&self, target: &str) -> Answer {
        self.send(request("GET", target, "")).await
    }

    pub(crate) async fn send(&self, request: Request<Full<bytes::Bytes>>) -> Answer {
        client::send(self.proxy(), request).await
    }
}

pub(crate) fn request(method: &str, target: &str, body: &str) -> Request<Full<bytes::Bytes>> {
    client::request(method, &format!("http://{BANK}{target}"), body)
}

/// The VirtualService of a namespace for calls of a host.
pub(crate) fn calls(namespace: &str, host: &str, http: &str) -> String {
    format!(
        "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: calls, namespace: {namespace}}}
spec:
  hosts: [{host}]
  http:
{http}"
    )
}
