//! Callers: an application with `HTTP_PROXY`, a peer with any certificate, and one that writes raw bytes.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper_util::rt::{TokioExecutor, TokioIo};
use palisade_certs::tls::{ExpectedPeer, client_config};
use palisade_certs::{Svid, TrustBundle};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::wait::DEADLINE;

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub trailers: Option<HeaderMap>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// A request as an application sends it to its `HTTP_PROXY`: absolute-form.
pub fn request(method: &str, url: &str, body: &str) -> Request<Full<Bytes>> {
    let host =
        url.strip_prefix("http://").and_then(|rest| rest.split('/').next()).unwrap_or_default().to_owned();
    Request::builder()
        .method(method)
        .uri(url)
        .header("host", host)
        .body(Full::new(Bytes::from(body.to_owned())))
        .unwrap()
}

/// Sends one request on a connection of its own, HTTP/1.1.
pub async fn send(address: SocketAddr, request: Request<Full<Bytes>>) -> Answer {
    let socket = TcpStream::connect(address).await.unwrap();
    send_on(socket, request).await.unwrap()
}

/// The same where the answer may break off.
pub async fn try_send(address: SocketAddr, request: Request<Full<Bytes>>) -> Result<Answer, hyper::Error> {
    let socket = TcpStream::connect(address).await.unwrap();
    send_on(socket, request).await
}

/// GET through an `HTTP_PROXY`.
pub async fn get(proxy: SocketAddr, url: &str) -> Answer {
    send(proxy, request("GET", url, "")).await
}

/// POST through an `HTTP_PROXY`.
pub async fn post(proxy: SocketAddr, url: &str, body: &str) -> Answer {
    send(proxy, request("POST", url, body)).await
}

/// One HTTP/1.1 request over any stream.
pub async fn send_on<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Answer, hyper::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection.with_upgrades());
    let response = timeout(DEADLINE, sender.send_request(request)).await.expect("an answer in time")?;
    read(response).await
}

/// A body of these pieces, whose length nobody tells beforehand.
pub fn streamed(pieces: &[&str]) -> BoxBody<Bytes, Infallible> {
    let frames: Vec<_> =
        pieces.iter().map(|piece| Ok(Frame::data(Bytes::from((*piece).to_owned())))).collect();
    BodyExt::boxed(StreamBody::new(stream::iter(frames)))
}

/// A body of pieces that are sent one by one, whose length nobody tells beforehand.
pub fn paced() -> (mpsc::Sender<Bytes>, BoxBody<Bytes, Infallible>) {
    let (sender, receiver) = mpsc::channel(1);
    let frames = stream::unfold(receiver, async |mut receiver: mpsc::Receiver<Bytes>| {
        let piece = receiver.recv().await?;
        Some((Ok(Frame::data(piece)), receiver))
    });
    (sender, BodyExt::boxed(StreamBody::new(Box::pin(frames))))
}

/// One HTTP/2 request over any stream.
pub async fn send_h2<S, B>(stream: S, request: Request<B>) -> Result<Answer, hyper::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    B: Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let response = timeout(DEADLINE, sender.send_request(request)).await.expect("an answer in time")?;
    read(response).await
}

/// Reads an answer to its end.
pub async fn read(response: Response<hyper::body::Incoming>) -> Result<Answer, hyper::Error> {
    let (head, mut body) = response.into_parts();
    let (mut bytes, mut trailers) = (Vec::new(), None);
    while let Some(frame) = timeout(DEADLINE, body.frame()).await.expect("a frame in time") {
        match frame?.into_data() {
            Ok(data) => bytes.extend_from_slice(&data),
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    Ok(Answer { status: head.status, headers: head.headers, body: bytes.into(), trailers })
}

/// A mutual TLS connection to a sidecar as `svid` (or nobody), expecting `expected`, offering `alpn`.
pub async fn connect_tls(
    address: SocketAddr,
    svid: Option<&Svid>,
    bundle: &TrustBundle,
    expected: ExpectedPeer,
    alpn: &[&[u8]],
) -> std::io::Result<TlsStream<TcpStream>> {
    let config = client_config(svid, bundle, expected, alpn).unwrap();
    let socket = TcpStream::connect(address).await?;
    let name = ServerName::IpAddress(address.ip().into());
    TlsConnector::from(Arc::new(config)).connect(name, socket).await
}

/// A connection from another loopback address than 127.0.0.1: another client.
pub async fn connect_from(source: &str, address: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(source.parse().unwrap(), 0))?;
    socket.connect(address).await
}

/// Waits until the other side closes or resets the connection. Panics when it goes on.
pub async fn closed<S: AsyncRead + Unpin>(stream: &mut S) {
    let mut buffer = vec![0; 16 * 1024];
    let reading = async { while matches!(stream.read(&mut buffer).await, Ok(count) if count > 0) {} };
    timeout(DEADLINE, reading).await.expect("the connection is closed");
}

/// Writes raw bytes and reads until the other side closes or is silent for a second.
pub async fn raw<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8]) -> Vec<u8> {
    let _closed_early = stream.write_all(bytes).await;
    let _closed_early = stream.flush().await;
    let mut answer = Vec::new();
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(Ok(count)) = timeout(Duration::from_secs(1), stream.read(&mut buffer)).await {
        if count == 0 {
            break;
        }
        answer.extend_from_slice(&buffer[..count]);
    }
    answer
}
