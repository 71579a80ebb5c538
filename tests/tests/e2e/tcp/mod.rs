//! Raw TCP through the mesh: a server that speaks first, who may call it, and how connections end.

mod ends;
mod pool;
mod refusals;

use std::net::SocketAddr;

use palisade_tests::tcp::{GOODBYE, GREETING};
use palisade_tests::wait::DEADLINE;
use palisade_tests::{Sidecar, SidecarBuilder, TcpService, World};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::PALISADE;
use crate::kit::{LEDGER, STRICT, service_entry};

/// Web may call the ledger's port 8080, and nobody else may.
const ALLOW_WEB: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: web-only, namespace: payments}
spec:
  action: ALLOW
  rules:
  - from: [{source: {principals: [test.mesh/ns/payments/sa/web]}}]
    to: [{operation: {ports: ['8080']}}]
";

/// The service behind its sidecar on a TCP port, in a mesh of files.
struct Database {
    world: World,
    app: TcpService,
    sidecar: Sidecar,
}

impl Database {
    async fn start(policies: &str) -> Self {
        Self::start_with(STRICT, policies, |builder| builder).await
    }

    async fn start_with(
        mtls: &str,
        policies: &str,
        options: impl FnOnce(SidecarBuilder) -> SidecarBuilder,
    ) -> Self {
        let world = World::of_files(PALISADE);
        let app = TcpService::start().await;
        world.policy("mtls.yaml", mtls);
        world.policy("policies.yaml", policies);
        let builder = options(world.file_sidecar("payments/ledger"));
        let sidecar = builder.serve_as(8080, "tcp", app.address()).start().await;
        Self { world, app, sidecar }
    }

    fn inbound(&self) -> SocketAddr {
        self.sidecar.inbound(8080)
    }

    /// A sidecar of this workload's, with a local port that leads to the service.
    async fn caller(&self, workload: &str) -> Sidecar {
        self.caller_with(workload, |builder| builder).await
    }

    async fn caller_with(
        &self,
        workload: &str,
        options: impl FnOnce(SidecarBuilder) -> SidecarBuilder,
    ) -> Sidecar {
        self.world.policy("ledger.yaml", &service_entry("ledger", self.inbound(), "TCP"));
        let builder = options(self.world.file_sidecar(workload));
        builder.local_port(LEDGER).start().await
    }
}

async fn connect(sidecar: &Sidecar) -> TcpStream {
    TcpStream::connect(sidecar.local_port(LEDGER)).await.unwrap()
}

async fn hear<S: AsyncRead + Unpin>(stream: &mut S, expected: &[u8]) {
    let mut heard = vec![0; expected.len()];
    timeout(DEADLINE, stream.read_exact(&mut heard)).await.expect("an answer in time").unwrap();
    assert_eq!(String::from_utf8_lossy(&heard), String::from_utf8_lossy(expected));
}

async fn ask<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, text: &[u8]) {
    stream.write_all(text).await.unwrap();
    stream.flush().await.unwrap();
    hear(stream, text).await;
}

/// What is left, and whether it came to an end or broke off.
async fn rest<S: AsyncRead + Unpin>(stream: &mut S) -> (Vec<u8>, bool) {
    let mut rest = Vec::new();
    let read = timeout(DEADLINE, stream.read_to_end(&mut rest)).await.expect("an end in time");
    (rest, read.is_ok())
}

#[tokio::test]
async fn a_server_that_speaks_first_is_heard_and_both_sides_end_one_after_the_other() {
    let database = Database::start(ALLOW_WEB).await;
    let web = database.caller("payments/web").await;
    let mut stream = connect(&web).await;
    hear(&mut stream, GREETING).await;
    ask(&mut stream, b"select 1;\x00\x16\xff").await;
    stream.shutdown().await.unwrap();
    assert_eq!(rest(&mut stream).await, (GOODBYE.to_vec(), true));
    let heard = database.app.ended().await;
    assert_eq!(heard.bytes, b"select 1;\x00\x16\xff");
    assert_eq!(heard.end, Some(palisade_tests::tcp::Ending::Whole));

    let sent = GREETING.len() + heard.bytes.len() + GOODBYE.len();
    for (sidecar, direction, reporter) in
        [(&database.sidecar, "inbound", "destination"), (&web, "outbound", "source")]
    {
        let records = sidecar.records_with(1, &[("protocol", json!("TCP"))]).await;
        let record = &records[0];
        assert_eq!(records.len(), 1, "{records:#?}");
        for (key, value) in [
            ("direction", json!(direction)),
            ("decision", json!("allowed")),
            ("source_principal", json!("spiffe://test.mesh/ns/payments/sa/web")),
            ("destination_principal", json!("spiffe://test.mesh/ns/payments/sa/ledger")),
            ("bytes_received", json!(heard.bytes.len())),
            ("bytes_sent", json!(sent)),
            ("response_code", json!(0)),
            ("response_flags", json!("-")),
            ("method", json!(null)),
            ("connection_security_policy", json!("mutual_tls")),
        ] {
            assert_eq!(record[key], value, "{key}: {record:#?}");
        }
        let labels = [
            format!("reporter=\"{reporter}\""),
            "source_workload=\"web\"".to_owned(),
            "destination_service=\"ledger.payments\"".to_owned(),
            "request_protocol=\"tcp\"".to_owned(),
            "connection_security_policy=\"mutual_tls\"".to_owned(),
        ];
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        for (name, value) in [
            ("istio_tcp_connections_opened_total", 1),
            ("istio_tcp_connections_closed_total", 1),
            ("istio_tcp_received_bytes_total", heard.bytes.len()),
            ("istio_tcp_sent_bytes_total", sent),
            ("istio_requests_total", 0),
        ] {
            assert_eq!(sidecar.metric(name, &labels).await as usize, value, "{name} of {reporter}");
        }
    }
    let inbound = &database.sidecar.records()[0];
    assert_eq!((&inbound["reason"], &inbound["policy"]), (&json!("rule"), &json!("payments/web-only")));
}

/// More than all buffers on the way, both ways at once.
#[tokio::test]
async fn large_transfers_pass_unchanged_both_ways_at_once() {
    let database = Database::start(ALLOW_WEB).await;
    let web = database.caller("payments/web").await;
    let mut stream = connect(&web).await;
    hear(&mut stream, GREETING).await;
    let sent: Vec<u8> = (0..4_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let (mut reader, mut writer) = stream.split();
    let write = async {
        writer.write_all(&sent).await.unwrap();
        writer.shutdown().await.unwrap();
    };
    let ((), (back, whole)) = tokio::join!(write, rest(&mut reader));
    assert!(whole);
    assert_eq!(back.len(), sent.len() + GOODBYE.len());
    assert!(back.starts_with(&sent), "what came back is not what was sent");
    assert!(database.app.ended().await.bytes == sent, "what arrived is not what was sent");
}
