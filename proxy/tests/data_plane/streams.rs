//! gRPC-shaped HTTP/2 through two sidecars: both directions stream on their own, trailers arrive, resets propagate.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

use crate::mesh::{DEADLINE, Pair};

/// A body fed by the test.
struct Fed(mpsc::Receiver<Frame<Bytes>>);

impl Body for Fed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|frame| frame.map(Ok))
    }
}

/// The request's side of a call.
struct Feed {
    feed: mpsc::Sender<Frame<Bytes>>,
    /// The caller's socket, to be cut.
    socket: std::net::TcpStream,
}

/// An application that echoes each message as it comes, then sends trailers. Tells when a request body failed.
async fn echo() -> (SocketAddr, watch::Receiver<bool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (reset, was_reset) = watch::channel(false);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let reset = reset.clone();
            let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                let reset = reset.clone();
                async move {
                    assert_eq!(request.headers()["te"], "trailers");
                    let (feed, fed) = mpsc::channel(1);
                    tokio::spawn(answer(request.into_body(), feed, reset));
                    let response = Response::builder().header("content-type", "application/grpc");
                    Ok::<_, Infallible>(response.body(Fed(fed)).unwrap())
                }
            });
            let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service);
            tokio::spawn(connection);
        }
    });
    (address, was_reset)
}

async fn answer(mut body: Incoming, feed: mpsc::Sender<Frame<Bytes>>, reset: watch::Sender<bool>) {
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => {
                if let Ok(data) = frame.into_data()
                    && feed.send(Frame::data(data)).await.is_err()
                {
                    return;
                }
            }
            Err(_) => {
                reset.send_replace(true);
                return;
            }
        }
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "5".parse().unwrap());
    trailers.insert("x-forwarded-client-cert", "forged".parse().unwrap());
    let _sent = feed.send(Frame::trailers(trailers)).await;
}

async fn call(
    address: SocketAddr,
    path: &str,
) -> (Feed, impl Future<Output = hyper::Result<Response<Incoming>>>) {
    let stream = TcpStream::connect(address).await.unwrap().into_std().unwrap();
    let socket = stream.try_clone().unwrap();
    let stream = TcpStream::from_std(stream).unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let (feed, fed) = mpsc::channel(1);
    let request = Request::post(format!("http://ledger.payments:8080{path}"))
        .header("content-type", "application/grpc+proto")
        .header("te", "trailers")
        .body(Fed(fed))
        .unwrap();
    (Feed { feed, socket }, async move { sender.send_request(request).await })
}

#[tokio::test]
async fn messages_stream_both_ways_and_trailers_arrive() {
    let (app, _) = echo().await;
    let pair = Pair::with_grpc_app(app).await;
    let (feed, response) = call(pair.caller.ledger_port(), "/public/Stream").await;
    let mut response = response.await.unwrap();
    for message in ["one", "two", "three"] {
        feed.feed.send(Frame::data(message.into())).await.unwrap();
        let frame = tokio::time::timeout(DEADLINE, response.body_mut().frame()).await.unwrap();
        assert_eq!(frame.unwrap().unwrap().into_data().unwrap(), message);
    }
    drop(feed);
    let trailers = response.body_mut().frame().await.unwrap().unwrap().into_trailers().unwrap();
    assert_eq!(trailers["grpc-status"], "5");
    assert!(!trailers.contains_key("x-forwarded-client-cert"));
    let record = &pair.callee.records(1).await[0];
    assert_eq!(record["grpc_status"], 5);
    assert_eq!((&record["bytes_received"], &record["bytes_sent"]), (&11.into(), &11.into()));
    assert_eq!(pair.caller.records(1).await[0]["grpc_status"], 5);
}

#[tokio::test]
async fn a_cancelled_call_is_cancelled_at_the_application_and_recorded() {
    let (app, mut was_reset) = echo().await;
    let pair = Pair::with_grpc_app(app).await;
    let (feed, response) = call(pair.caller.ledger_port(), "/public/Stream").await;
    let response = response.await.unwrap();
    feed.feed.send(Frame::data("one".into())).await.unwrap();
    feed.socket.shutdown(std::net::Shutdown::Both).unwrap();
    tokio::time::timeout(DEADLINE, was_reset.wait_for(|reset| *reset)).await.unwrap().unwrap();
    drop(response);
    let record = &pair.callee.records(1).await[0];
    assert_eq!(record["response_flags"], "DC");
}

#[tokio::test]
async fn a_refused_grpc_call_gets_a_grpc_status() {
    let (app, _) = echo().await;
    let pair = Pair::with_grpc_app(app).await;
    let (_feed, response) = call(pair.caller.ledger_port(), "/private/Stream").await;
    let response = response.await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["grpc-status"], "7");
    let record = &pair.callee.records(1).await[0];
    assert_eq!((&record["decision"], &record["grpc_status"]), (&"denied".into(), &7.into()));
}

#[tokio::test]
async fn a_large_body_streams_with_bounded_memory_and_arrives_whole() {
    let (app, _) = echo().await;
    let pair = Pair::with_grpc_app(app).await;
    let (feed, response) = call(pair.caller.ledger_port(), "/public/Stream").await;
    let mut response = response.await.unwrap();
    let chunk = Bytes::from(vec![7; 64 * 1024]);
    tokio::spawn(async move {
        for _ in 0..256 {
            if feed.feed.send(Frame::data(chunk.clone())).await.is_err() {
                return;
            }
        }
    });
    let mut received = 0;
    while let Some(frame) = response.body_mut().frame().await {
        received += frame.unwrap().data_ref().map_or(0, Bytes::len);
    }
    assert_eq!(received, 256 * 64 * 1024);
}
