//! The outcomes of Istio's integration tests, over the wire: a real sidecar gives the answers that the evaluator gives in
//! `policy/tests/istio`, by the same tables.

mod authz;
mod jwt;
#[path = "../../../../policy/tests/istio/table.rs"]
mod table;

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use palisade_tests::client::{self, Answer};
use palisade_tests::tcp::GREETING;
use palisade_tests::wait::DEADLINE;
use palisade_tests::world::expecting;
use palisade_tests::{Sidecar, TcpService, Upstream, World, until};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::PALISADE;
use crate::kit::{HTTP1, HTTP2};

/// What every policy of the tables is for.
const SERVICE: &str = "ns1/b";

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../policy/tests/data/istio")
}

fn read(name: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(data().join(name)).unwrap()).unwrap()
}

/// One service behind its sidecar, whose policies are exchanged under it.
struct Place {
    world: World,
    app: Upstream,
    /// What is behind its TCP ports.
    database: TcpService,
    sidecar: Sidecar,
}

/// The ports that the tables name.
const PORTS: &[(u16, &str)] = &[
    (18080, "http"),
    (18085, "http2"),
    (17070, "grpc"),
    (19090, "tcp"),
    (8091, "http"),
    (8092, "http"),
    (8093, "tcp"),
    (8094, "tcp"),
    (9000, "tcp"),
    (9001, "tcp"),
];

/// How a request comes in.
#[derive(Clone, Copy)]
struct Call<'c> {
    /// `namespace/account`, or `-` for a caller without a certificate.
    from: &'c str,
    port: u16,
    http2: bool,
    method: &'c str,
    path: &'c str,
    host: &'c str,
    headers: &'c [(String, String)],
}

impl Place {
    async fn start() -> Self {
        let world = World::of_files(PALISADE);
        let app = Upstream::start("b").await;
        world.policy("policies.yaml", crate::kit::STRICT);
        let database = TcpService::start().await;
        let mut sidecar = world.file_sidecar(SERVICE).workers(1);
        for (port, protocol) in PORTS {
            let behind = if *protocol == "tcp" { database.address() } else { app.address() };
            sidecar = sidecar.serve_as(*port, protocol, behind);
        }
        Self { world, app, database, sidecar: sidecar.start().await }
    }

    /// Puts other policies into force and waits until they are.
    async fn enforce(&self, name: &str, policies: &str) {
        let version = async || self.sidecar.metric("palisade_config_version", &[]).await;
        let before = version().await;
        self.world.policy("policies.yaml", &format!("# {name}\n{policies}"));
        until("other policies in force", || async {
            let now = version().await;
            if now > before { Ok(()) } else { Err((now, self.sidecar.process.log())) }
        })
        .await;
    }

    /// Whether a connection to a TCP port reaches the service, which greets whoever does.
    async fn connects(&self, from: &str, port: u16) -> bool {
        let (before, address) = (self.database.heard().len(), self.sidecar.inbound(port));
        let greeted = match from {
            "-" => is_greeted(TcpStream::connect(address).await.unwrap()).await,
            workload => {
                let (svid, bundle) = (self.world.pki.svid(workload), &self.world.pki.bundle);
                let stream = client::connect_tls(address, Some(&svid), bundle, expecting(SERVICE), &[]).await;
                is_greeted(stream.unwrap()).await
            }
        };
        assert_eq!(self.database.heard().len(), before + usize::from(greeted), "{from} {port}");
        greeted
    }

    /// The answer to one request on a connection of its own, and whether the service saw it.
    async fn call(&self, call: &Call<'_>) -> (Answer, bool) {
        self.app.clear();
        let address = self.sidecar.inbound(call.port);
        let uri = match call.http2 {
            true => format!("http://{}{}", call.host, call.path),
            false => call.path.to_owned(),
        };
        let mut request = Request::builder().method(call.method).uri(uri);
        if !call.http2 {
            request = request.header("host", call.host);
        }
        for (name, value) in call.headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(Bytes::new())).unwrap();
        let answer = match (call.from, call.http2) {
            ("-", true) => client::send_h2(TcpStream::connect(address).await.unwrap(), request).await,
            ("-", false) => client::send_on(TcpStream::connect(address).await.unwrap(), request).await,
            (workload, http2) => {
                let (svid, alpn) = (self.world.pki.svid(workload), if http2 { HTTP2 } else { HTTP1 });
                let bundle = &self.world.pki.bundle;
                let stream =
                    client::connect_tls(address, Some(&svid), bundle, expecting(SERVICE), alpn).await;
                match http2 {
                    true => client::send_h2(stream.unwrap(), request).await,
                    false => client::send_on(stream.unwrap(), request).await,
                }
            }
        };
        (answer.unwrap(), !self.app.received().is_empty())
    }
}

/// A caller in plaintext speaks first, lest it be waited for.
pub(crate) async fn is_greeted<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) -> bool {
    let _refused_already = stream.write_all(b"?").await;
    let _refused_already = stream.flush().await;
    let mut greeting = vec![0; GREETING.len()];
    let read =
        timeout(DEADLINE, stream.read_exact(&mut greeting)).await.expect("an answer or an end in time");
    read.is_ok() && greeting == GREETING
}
