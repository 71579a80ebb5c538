//! Large bodies and slow readers: bounded memory, backpressure both ways.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper_util::rt::TokioIo;
use palisade_tests::wait::DEADLINE;
use palisade_tests::{Sidecar, client};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;

use crate::kit::{LEDGER, Mesh, url};

const MIB: u64 = 1024 * 1024;
/// What both sidecars may grow by while bodies far larger pass or wait: windows, buffers, the allocator's habits.
const GROWTH_KIB_MAX: u64 = 24 * 1024;

fn resident(sidecars: [&Sidecar; 2]) -> u64 {
    sidecars.iter().map(|sidecar| sidecar.process.resident_kib()).max().unwrap()
}

#[tokio::test]
async fn a_large_answer_passes_in_bounded_memory() {
    let mesh = Mesh::open().await;
    let caller = mesh.caller().await;
    client::get(caller.http_proxy(), &url("/bytes/1000000")).await;
    let before = resident([&mesh.sidecar, &caller]);
    let size = 96 * MIB;
    let socket = TcpStream::connect(caller.http_proxy()).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await.unwrap();
    tokio::spawn(connection);
    let request = client::request("GET", &url(&format!("/bytes/{size}")), "");
    let mut body = sender.send_request(request).await.unwrap().into_body();
    let mut read = 0;
    while let Some(frame) = timeout(DEADLINE, body.frame()).await.unwrap() {
        read += frame.unwrap().into_data().map_or(0, |data| data.len() as u64);
    }
    assert_eq!(read, size);
    let growth = resident([&mesh.sidecar, &caller]).saturating_sub(before);
    assert!(growth < GROWTH_KIB_MAX, "{growth} KiB");
}

/// A reader that stops: what is in flight stays within the windows, and nothing else is read from the service.
#[tokio::test]
async fn a_reader_that_stops_stops_the_service_and_not_the_others() {
    let mesh = Mesh::open().await;
    let caller = mesh.caller().await;
    client::get(caller.http_proxy(), &url("/bytes/1000000")).await;
    let before = resident([&mesh.sidecar, &caller]);
    let mut stalled = Vec::new();
    for _ in 0..4 {
        let socket = TcpStream::connect(caller.http_proxy()).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(socket)).await.unwrap();
        tokio::spawn(connection);
        let request = client::request("GET", &url(&format!("/bytes/{}", 512 * MIB)), "");
        let answer = sender.send_request(request).await.unwrap();
        stalled.push((sender, answer));
    }
    for _ in 0..20 {
        assert_eq!(client::get(caller.http_proxy(), &url("/")).await.status, StatusCode::OK);
    }
    let growth = resident([&mesh.sidecar, &caller]).saturating_sub(before);
    assert!(growth < GROWTH_KIB_MAX, "{growth} KiB");
}

#[tokio::test]
async fn a_service_that_does_not_read_stops_the_sender() {
    let mesh = Mesh::open().await;
    let caller = mesh.caller().await;
    // A listener that accepts and reads nothing: the service behind a sidecar of its own.
    let deaf = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let deaf_app = deaf.local_addr().unwrap();
    let holding = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((socket, _)) = deaf.accept().await {
            held.push(socket);
        }
    });
    let sidecar = mesh.world.file_sidecar("payments/deaf");
    let sidecar = sidecar.serve(8080, deaf_app).start().await;
    mesh.world.policy("deaf.yaml", &crate::kit::service_entry("deaf", sidecar.inbound(8080), "HTTP"));
    palisade_tests::until("the new service", || async {
        let mut answer = client::send(caller.http_proxy(), client::request("CONNECT", "http://x", "")).await;
        answer.headers.clear();
        let known = caller.admin("/config").await.text().contains("deaf.payments");
        if known { Ok(()) } else { Err(answer.status) }
    })
    .await;
    let before = resident([&sidecar, &caller]);
    let (frames, body) = mpsc::channel::<Result<Frame<Bytes>, std::convert::Infallible>>(1);
    let socket = TcpStream::connect(caller.http_proxy()).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::post("http://deaf.payments:8080/")
        .header("host", LEDGER.replace("ledger", "deaf"))
        .body(StreamBody::new(ReceiverStream::new(body)))
        .unwrap();
    let pending = tokio::spawn(async move { sender.send_request(request).await });
    let chunk = Bytes::from(vec![b'x'; 64 * 1024]);
    let mut sent = 0_u64;
    // 256 MiB would pass a proxy that buffers.
    while sent < 256 * MIB {
        let send = frames.send(Ok(Frame::data(chunk.clone())));
        match timeout(Duration::from_secs(2), send).await {
            Ok(done) => done.unwrap(),
            Err(_) => break,
        }
        sent += chunk.len() as u64;
    }
    assert!(sent < 64 * MIB, "{sent} bytes were taken in");
    let growth = resident([&sidecar, &caller]).saturating_sub(before);
    assert!(growth < GROWTH_KIB_MAX, "{growth} KiB");
    pending.abort();
    holding.abort();
}
