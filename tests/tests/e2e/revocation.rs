//! An evicted instance holds a certificate that has not ended and need not do as it is told: every sidecar ends what is open
//! with it, and lets it in no more.

use std::time::Duration;

use http::StatusCode;
use http_body_util::BodyExt;
use hyper_util::rt::{TokioExecutor, TokioIo};
use palisade_proto::v1;
use palisade_proto::v1::proxy_message::Message as Said;
use palisade_tests::client::{self, connect_tls};
use palisade_tests::tcp::{Ending, GREETING};
use palisade_tests::world::expecting;
use palisade_tests::{Member, MeshServer, TcpService, Upstream, World, until};
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::fleet::{ALLOW_WEB, Fleet, ledger, until_endpoints, world};

/// From the end of `palisade evict` to the end of all that was open. What is promised; a machine under load takes a part of it.
const WITHIN: Duration = Duration::from_secs(1);

const TCP: &[&[u8]] = &[b"palisade-tcp"];

async fn evict(world: &World, member: &Member) {
    let done = world.operator(&["evict", &member.instance, "--reason", "stolen"]).await;
    assert_eq!(done.code, Some(0), "{done:?}");
}

/// Reads until the other side is gone.
async fn gone(stream: &mut (impl tokio::io::AsyncRead + Unpin)) {
    let mut buffer = [0; 1024];
    while matches!(stream.read(&mut buffer).await, Ok(1..)) {}
}

#[tokio::test]
async fn what_an_evicted_caller_has_open_ends_within_a_second_and_it_gets_in_no_more() {
    let fleet = Fleet::open().await;
    let database = TcpService::start().await;
    let tcp = fleet.world.sidecar_named("payments/ledger", "ledger-tcp").await;
    let tcp = tcp.serve_as(5432, "tcp", database.address()).start().await;
    let (stolen, other) = (fleet.world.join("payments/web").await, fleet.world.join("payments/web").await);
    let bundle = fleet.world.mesh_bundle();
    let inbound = fleet.ledger.inbound(8080);
    let connect = |member: &Member, address, alpn: &'static [&'static [u8]]| {
        let (svid, bundle) = (member.svid.clone(), bundle.clone());
        async move { connect_tls(address, Some(&svid), &bundle, expecting("payments/ledger"), alpn).await }
    };

    // Idle, in the midst of an answer, and raw TCP; the last two by the other instance of the same identity.
    let mut idle = connect(&stolen, inbound, &[b"http/1.1"]).await.unwrap();
    let stream = connect(&stolen, inbound, &[b"h2"]).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = client::request("GET", &ledger("/drip/100000"), "");
    let mut body = sender.send_request(request).await.unwrap().into_body();
    body.frame().await.unwrap().unwrap();
    let mut raw = connect(&stolen, tcp.inbound(5432), TCP).await.unwrap();
    let mut kept = connect(&other, tcp.inbound(5432), TCP).await.unwrap();
    for stream in [&mut raw, &mut kept] {
        let mut greeting = [0; GREETING.len()];
        timeout(WITHIN * 20, stream.read_exact(&mut greeting)).await.unwrap().unwrap();
    }

    evict(&fleet.world, &stolen).await;
    let start = Instant::now();
    let all = async {
        while matches!(body.frame().await, Some(Ok(_))) {}
        let _closed = connection.await;
        gone(&mut idle).await;
        gone(&mut raw).await;
    };
    timeout(WITHIN * 20, all).await.expect("everything to end at all");
    assert!(start.elapsed() < WITHIN, "{:?}", start.elapsed());

    let details = json!("closed_by_revocation");
    fleet
        .ledger
        .records_with(1, &[("response_code_details", details.clone()), ("path", json!("/drip/100000"))])
        .await;
    tcp.records_with(1, &[("response_code_details", details)]).await;
    for (address, alpn) in [(inbound, &[&b"h2"[..]][..]), (tcp.inbound(5432), TCP)] {
        let alpn: &'static [&'static [u8]] = if alpn == TCP { TCP } else { &[b"h2"] };
        // TLS 1.3: the client is done before the server has looked.
        if let Ok(mut stream) = connect(&stolen, address, alpn).await {
            timeout(WITHIN * 20, gone(&mut stream)).await.expect("an end");
        }
    }
    fleet
        .ledger
        .records_with(1, &[("reason", json!("revoked")), ("decision", json!("unauthenticated"))])
        .await;
    // Which of the two reached it first is the workers' affair.
    until("the service to know of one end, and of one alone", || async {
        let ends: Vec<_> = database.heard().into_iter().filter_map(|heard| heard.end).collect();
        if ends == [Ending::Broken] { Ok(()) } else { Err(ends) }
    })
    .await;

    // The same identity, another certificate.
    tokio::io::AsyncWriteExt::write_all(&mut kept, b"still").await.unwrap();
    let mut echo = [0; 5];
    timeout(WITHIN * 20, kept.read_exact(&mut echo)).await.unwrap().unwrap();
    let stream = connect(&other, inbound, &[b"http/1.1"]).await.unwrap();
    let answer = client::send_on(stream, crate::kit::get("/after")).await.unwrap();
    assert_eq!(answer.status, StatusCode::OK);
}

#[tokio::test]
async fn what_is_open_with_an_evicted_server_ends_within_a_second_and_it_is_called_no_more() {
    let world = world().await;
    world.apply(ALLOW_WEB).await;
    let (app, database) = (Upstream::start("ledger").await, TcpService::start().await);
    let (stolen, stolen_tcp) = (world.join("payments/ledger").await, world.join("payments/database").await);
    let bundle = world.mesh_bundle();
    let server = MeshServer::start(&stolen.svid, &bundle, &[b"h2", b"http/1.1"], app.address()).await;
    let tcp_server = MeshServer::start(&stolen_tcp.svid, &bundle, TCP, database.address()).await;
    let mut streams = Vec::new();
    streams.push(world.publish(&stolen, &server.address().to_string()).await);
    let port = v1::ServedPort {
        number: 5432,
        name: "sql".into(),
        protocol: v1::Protocol::Tcp.into(),
        address: tcp_server.address().to_string(),
    };
    let mut stream = world.stream(&stolen_tcp, vec![port]).await.unwrap();
    stream.snapshot().await;
    stream.send(Said::Readiness(v1::Readiness { ready: true, application: None })).await;
    streams.push(stream);
    let destination = "database.payments:5432";
    let web = world.sidecar("payments/web").await.outbound().local_port(destination).start().await;
    until_endpoints(&web, "ledger.payments", 1).await;
    until_endpoints(&web, "database.payments", 1).await;

    let socket = TcpStream::connect(web.http_proxy()).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await.unwrap();
    tokio::spawn(connection);
    let answer = sender.send_request(client::request("GET", &ledger("/drip/100000"), "")).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let mut body = answer.into_body();
    body.frame().await.unwrap().unwrap();
    let mut raw = TcpStream::connect(web.local_port(destination)).await.unwrap();
    let mut greeting = [0; GREETING.len()];
    timeout(WITHIN * 20, raw.read_exact(&mut greeting)).await.unwrap().unwrap();

    evict(&world, &stolen).await;
    let start = Instant::now();
    let all = async {
        while matches!(body.frame().await, Some(Ok(_))) {}
        server.until_open(0).await;
    };
    timeout(WITHIN * 20, all).await.expect("everything to end at all");
    assert!(start.elapsed() < WITHIN, "{:?}", start.elapsed());
    evict(&world, &stolen_tcp).await;
    let start = Instant::now();
    gone(&mut raw).await;
    tcp_server.until_open(0).await;
    assert!(start.elapsed() < WITHIN, "{:?}", start.elapsed());
    web.records_with(2, &[("response_code_details", json!("closed_by_revocation"))]).await;

    app.clear();
    until("the service to be gone", || async {
        let answer = client::get(web.http_proxy(), &ledger("/after")).await;
        if matches!(answer.status.as_u16(), 502 | 503) { Ok(()) } else { Err(answer.status) }
    })
    .await;
    app.assert_untouched();
    drop(streams);
}
