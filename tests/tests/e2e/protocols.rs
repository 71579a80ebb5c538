//! HTTP/1.1, HTTP/2, gRPC in its four kinds, upgrades, keep-alive.

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, Version};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper_util::rt::{TokioExecutor, TokioIo};
use palisade_tests::client;
use palisade_tests::wait::DEADLINE;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use crate::kit::{HTTP1, HTTP2, LEDGER, Mesh, get, request, request_h2, upgrade, url};

type Frames = mpsc::Sender<Result<Frame<Bytes>, std::convert::Infallible>>;

#[tokio::test]
async fn methods_bodies_and_statuses_pass_unchanged_in_both_protocols() {
    let mesh = Mesh::open().await;
    for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PURGE"] {
        let body = if matches!(method, "GET" | "HEAD") { "" } else { "some body" };
        for version in [Version::HTTP_11, Version::HTTP_2] {
            mesh.app.clear();
            let answer = if version == Version::HTTP_2 {
                mesh.call_h2("payments/web", request_h2(method, "/status/207", body)).await
            } else {
                mesh.call("payments/web", request(method, "/status/207", body)).await
            };
            assert_eq!(answer.status.as_u16(), 207, "{method} {version:?}");
            let received = mesh.app.last();
            assert_eq!((received.method.as_str(), received.body.as_slice()), (method, body.as_bytes()));
            assert_eq!(answer.text().is_empty(), method == "HEAD");
        }
    }
    let answer = mesh.call("payments/web", get("/headers")).await;
    assert_eq!(answer.headers.get_all("x-many").iter().count(), 2);
}

#[tokio::test]
async fn a_connection_is_kept_for_the_next_request() {
    let mesh = Mesh::open().await;
    let stream = mesh.connect("payments/web", HTTP1).await;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    for n in 0..20 {
        let answer = sender.send_request(request("POST", &format!("/{n}"), "body")).await.unwrap();
        assert_eq!(client::read(answer).await.unwrap().status, StatusCode::OK);
        sender.ready().await.unwrap();
    }
    assert_eq!(mesh.app.received().len(), 20);
}

#[tokio::test]
async fn twenty_streams_share_one_connection() {
    let mesh = Mesh::open().await;
    let stream = mesh.connect("payments/web", HTTP2).await;
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let calls = (0..20).map(|n| {
        let mut sender = sender.clone();
        tokio::spawn(async move {
            let answer =
                sender.send_request(request_h2("POST", "/echo", &format!("body {n}"))).await.unwrap();
            client::read(answer).await.unwrap().text()
        })
    });
    for (n, call) in calls.collect::<Vec<_>>().into_iter().enumerate() {
        assert_eq!(timeout(DEADLINE, call).await.unwrap().unwrap(), format!("body {n}"));
    }
}

/// A gRPC call that the test feeds frame by frame, from the application through both sidecars.
async fn grpc(
    address: std::net::SocketAddr,
) -> (Frames, tokio::task::JoinHandle<http::Response<hyper::body::Incoming>>) {
    let (frames, body) = mpsc::channel(4);
    let socket = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::builder()
        .method("POST")
        .uri(format!("http://{LEDGER}/echo/ledger.Ledger"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(StreamBody::new(ReceiverStream::new(body)))
        .unwrap();
    (frames, tokio::spawn(async move { sender.send_request(request).await.unwrap() }))
}

async fn next(body: &mut hyper::body::Incoming) -> Option<Frame<Bytes>> {
    timeout(DEADLINE, body.frame()).await.expect("a frame in time").map(Result::unwrap)
}

fn message(text: &str) -> Bytes {
    let mut bytes = vec![0];
    bytes.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
    bytes.extend(text.as_bytes());
    bytes.into()
}

#[tokio::test]
async fn grpc_messages_flow_both_ways_while_both_sides_are_open_and_trailers_arrive() {
    let mesh = Mesh::serving("grpc", crate::kit::ALLOW_MESH).await;
    mesh.publish();
    let caller = mesh.world.file_sidecar("payments/web").local_port(LEDGER);
    let caller = caller.start().await;
    // Unary, client streaming, server streaming and both ways differ on the wire in how many messages go each way
    // and when: each message is sent only after the one before it came back, then many without waiting.
    for count in [1, 5] {
        let (frames, answer) = grpc(caller.local_port(LEDGER)).await;
        frames.send(Ok(Frame::data(message("0")))).await.unwrap();
        let answer = timeout(DEADLINE, answer).await.expect("a head before the request ends").unwrap();
        assert_eq!((answer.status(), answer.version()), (StatusCode::OK, Version::HTTP_2));
        assert_eq!(answer.headers()["content-type"], "application/grpc");
        let mut body = answer.into_body();
        assert_eq!(next(&mut body).await.unwrap().into_data().unwrap(), message("0"));
        for n in 1..count {
            frames.send(Ok(Frame::data(message(&n.to_string())))).await.unwrap();
            assert_eq!(next(&mut body).await.unwrap().into_data().unwrap(), message(&n.to_string()));
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "1".parse().unwrap());
        frames.send(Ok(Frame::trailers(trailers))).await.unwrap();
        drop(frames);
        let end = next(&mut body).await.unwrap().into_trailers().unwrap();
        assert_eq!(end["grpc-status"], "0");
        let received = mesh.app.last();
        assert_eq!(received.version, Version::HTTP_2);
        assert_eq!(received.headers["te"], "trailers");
        assert_eq!(received.trailers.unwrap()["x-sum"], "1");
    }
}

#[tokio::test]
async fn a_refused_grpc_call_gets_a_grpc_status_and_nothing_reaches_the_service() {
    let mesh = Mesh::serving("grpc", crate::kit::DENY_ALL).await;
    let mut request = request_h2("POST", "/ledger.Ledger/Pay", "");
    request.headers_mut().append("content-type", "application/grpc+proto".parse().unwrap());
    let answer = mesh.call_h2("payments/web", request).await;
    assert_eq!(answer.status, StatusCode::OK);
    let trailers = answer.trailers.clone().unwrap_or_default();
    let of =
        |name: &str| answer.header(name).or_else(|| trailers.get(name)?.to_str().ok()).map(str::to_owned);
    assert_eq!(of("grpc-status").as_deref(), Some("7"), "{answer:?}");
    let id = answer.header("x-palisade-decision-id").unwrap();
    assert!(of("grpc-message").unwrap().contains(id), "{answer:?}");
    assert!(answer.body.is_empty());
    mesh.app.assert_untouched();
}

#[tokio::test]
async fn a_websocket_is_upgraded_end_to_end() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mesh = Mesh::open().await;
    let caller = mesh.caller().await;
    let (mut socket, answer) = upgrade(&caller, "").await;
    let text = answer.to_lowercase();
    assert!(text.starts_with("http/1.1 101") && text.contains("upgrade: websocket"), "{text}");
    for round in 0..50_u8 {
        socket.write_all(&[round; 1000]).await.unwrap();
        let mut echoed = [0; 1000];
        timeout(DEADLINE, socket.read_exact(&mut echoed)).await.unwrap().unwrap();
        assert_eq!(echoed, [round; 1000]);
    }
    assert_eq!(mesh.app.last().headers["sec-websocket-version"], "13");
}

#[tokio::test]
async fn an_answer_streams_while_it_is_made() {
    let mesh = Mesh::open().await;
    let caller = mesh.caller().await;
    let socket = TcpStream::connect(caller.http_proxy()).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await.unwrap();
    tokio::spawn(connection);
    let answer = sender.send_request(client::request("GET", &url("/drip/100"), "")).await.unwrap();
    let mut body = answer.into_body().into_data_stream();
    let first = timeout(DEADLINE, body.next()).await.unwrap().unwrap().unwrap();
    assert!(first.len() < 100, "the whole answer came at once");
}
