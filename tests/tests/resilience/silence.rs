//! Streams between sidecars in which nobody speaks. Each of the two counts for itself.

use std::net::SocketAddr;
use std::time::Duration;

use palisade_tests::client::{self, closed};
use palisade_tests::documents::service_entry;
use palisade_tests::wild::Act;
use palisade_tests::{Sidecar, SidecarBuilder, Upstream, Wild, World, until};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::PALISADE;
use crate::sidecars::OPEN;

const LIMIT: Duration = Duration::from_secs(1);

/// Whose sidecar was told of the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Caller,
    Service,
    /// The service's comes first, by a little.
    Both,
}

struct Mesh {
    world: World,
    caller: Sidecar,
    service: Sidecar,
    at: At,
}

impl Mesh {
    async fn of(protocol: &str, app: SocketAddr, at: At) -> Self {
        let world = World::of_files(PALISADE);
        world.policy("open.yaml", OPEN);
        let told = |of: At, sidecar: SidecarBuilder| match at {
            At::Both if of == At::Caller => sidecar.arg("--stream-idle-timeout", "3050ms"),
            At::Both => sidecar.arg("--stream-idle-timeout", "3s"),
            _ if at == of => sidecar.arg("--stream-idle-timeout", "1s"),
            _ => sidecar,
        };
        let service = told(At::Service, world.file_sidecar("payments/ledger"));
        let service = service.serve_as(8080, &protocol.to_lowercase(), app).start().await;
        world.policy("ledger.yaml", &service_entry("ledger", service.inbound(8080), protocol));
        let caller = told(At::Caller, world.file_sidecar("payments/web")).outbound().start().await;
        Self { world, caller, service, at }
    }

    /// The sidecar that found the silence too long says so, and the other one does not.
    async fn found(&self, details: &str) {
        let (it, other) = match self.at {
            At::Caller => (&self.caller, &self.service),
            At::Service | At::Both => (&self.service, &self.caller),
        };
        let fields = [
            ("reason", json!("stream_idle")),
            ("response_flags", json!("SI")),
            ("decision", json!("failed")),
            ("response_code_details", json!(details)),
        ];
        it.records_with(1, &fields).await;
        let having = ["reason=\"stream_idle\""];
        assert_eq!(it.metric("palisade_requests_ended_total", &having).await, 1.0);
        let [record] = &other.records_with(1, &[]).await[..] else { panic!("one record") };
        assert_ne!(record["reason"], "stream_idle", "{:?}", self.at);
    }
}

/// Begins a request, says no more, and gives all that came of its answer.
async fn begin(mesh: &Mesh, headers: &str) -> String {
    let mut stream = TcpStream::connect(mesh.caller.http_proxy()).await.unwrap();
    let head = format!(
        "POST http://ledger.payments:8080/echo HTTP/1.1\r\nhost: ledger.payments:8080\r\n{headers}\
         transfer-encoding: chunked\r\n\r\n5\r\nbegun\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let reading = tokio::time::timeout(LIMIT * 20, stream.read_to_end(&mut answer));
    let _broken = reading.await.expect("the answer ends");
    String::from_utf8(answer).unwrap()
}

fn call() -> http::Request<http_body_util::Full<bytes::Bytes>> {
    let mut call = client::request("POST", "http://ledger.payments:8080/transfers", "pay");
    for (name, value) in [("content-type", "application/grpc"), ("te", "trailers")] {
        call.headers_mut().insert(name, value.parse().unwrap());
    }
    call
}

#[tokio::test]
async fn a_call_of_grpc_that_nobody_answers_ends_and_is_made_once() {
    for at in [At::Caller, At::Service] {
        let app = Wild::http2(|_| Act::Stall).await;
        let mesh = Mesh::of("GRPC", app.address(), at).await;
        let began = Instant::now();
        let answer = client::send(mesh.caller.http_proxy(), call()).await;
        assert!(began.elapsed() >= LIMIT, "{at:?}");
        assert_eq!((answer.status.as_u16(), answer.header("grpc-status")), (200, Some("14")), "{at:?}");
        mesh.found("stream_idle").await;
        assert_eq!(app.delivered().len(), 1, "{at:?}");
    }
}

#[tokio::test]
async fn a_body_in_which_nothing_comes_either_way_breaks_off_and_never_looks_whole() {
    for at in [At::Caller, At::Service] {
        let app = Upstream::start("ledger").await;
        let mesh = Mesh::of("HTTP", app.address(), at).await;
        let answer = begin(&mesh, "").await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("begun"), "{at:?}: {answer}");
        assert!(!answer.contains("\r\n0\r\n"), "{at:?}: {answer}");
        mesh.found("stream_idle_after_response_started").await;
        assert!(app.received().iter().all(|request| !request.complete), "{at:?}");
    }
}

#[tokio::test]
async fn a_websocket_lives_while_something_is_said_and_ends_when_nothing_is() {
    for at in [At::Caller, At::Service] {
        let app = Upstream::start("ledger").await;
        let mesh = Mesh::of("HTTP", app.address(), at).await;
        let mut tunnel = TcpStream::connect(mesh.caller.http_proxy()).await.unwrap();
        let upgrade = "GET http://ledger.payments:8080/upgrade HTTP/1.1\r\nhost: ledger.payments:8080\r\n\
                       connection: upgrade\r\nupgrade: websocket\r\n\r\n";
        tunnel.write_all(upgrade.as_bytes()).await.unwrap();
        let mut buffer = [0; 1024];
        let count = tunnel.read(&mut buffer).await.unwrap();
        assert!(buffer[..count].starts_with(b"HTTP/1.1 101"), "{at:?}");
        let began = Instant::now();
        for _ in 0..6 {
            tokio::time::sleep(LIMIT / 4).await;
            tunnel.write_all(b"word").await.unwrap();
            tunnel.read_exact(&mut buffer[..4]).await.unwrap();
        }
        closed(&mut tunnel).await;
        assert!(began.elapsed() >= LIMIT * 5 / 2, "{at:?}: a second after the last word");
        mesh.found("stream_idle_after_response_started").await;
    }
}

#[tokio::test]
async fn an_answer_of_plain_http_has_its_own_time_to_begin() {
    for at in [At::Caller, At::Service] {
        let app = Wild::http1(|_| Act::Late(2_500)).await;
        let mesh = Mesh::of("HTTP", app.address(), at).await;
        let answer =
            client::post(mesh.caller.http_proxy(), "http://ledger.payments:8080/transfers", "pay").await;
        assert_eq!(answer.status, 200, "{at:?}");
    }
}

#[tokio::test]
async fn a_silence_says_nothing_of_the_endpoint() {
    let rule = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: ledger, namespace: payments}
spec: {host: ledger, trafficPolicy: {outlierDetection: {consecutive5xxErrors: 1}}}
";
    let silent = Wild::http2(|_| Act::Stall).await;
    let app = Upstream::start("ledger").await;
    for (protocol, address, headers) in [
        ("GRPC", silent.address(), None),
        ("GRPC", app.address(), Some("content-type: application/grpc\r\nte: trailers\r\n")),
        ("HTTP", app.address(), Some("")),
    ] {
        let mesh = Mesh::of(protocol, address, At::Both).await;
        mesh.world.policy("rule.yaml", rule);
        until("the rule to be known", || async {
            let told = mesh.caller.admin("/config").await.text();
            if told.contains("DestinationRule payments/ledger") { Ok(()) } else { Err(told) }
        })
        .await;
        match headers {
            None => drop(client::send(mesh.caller.http_proxy(), call()).await),
            Some(headers) => drop(begin(&mesh, headers).await),
        }
        mesh.caller.records_with(1, &[]).await;
        let page: serde_json::Value =
            serde_json::from_str(&mesh.caller.admin("/upstreams").await.text()).unwrap();
        assert_eq!(page[0]["endpoints"][0]["state"], "healthy", "{protocol} {headers:?}");
    }
}
