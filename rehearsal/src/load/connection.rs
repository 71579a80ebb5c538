//! Connections of HTTP/1.1 to one address, kept between requests.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::sample::Outcome;

/// An answer is read to its end and not kept.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// No more than there were requests at once.
#[derive(Debug)]
pub(super) struct Connections {
    to: SocketAddr,
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
}

impl Connections {
    pub(super) fn new(to: SocketAddr) -> Self {
        Self { to, idle: Mutex::default() }
    }

    pub(super) async fn send(&self, mut request: Request<Full<Bytes>>) -> Outcome {
        // One that was kept may have ended meanwhile. Only a request of which nothing was written is sent again: no
        // payment of ours is to be made twice by ourselves.
        while let Some(mut kept) = self.kept() {
            if kept.ready().await.is_err() {
                continue;
            }
            match kept.try_send_request(request).await {
                Ok(answer) => return self.read(answer, kept).await,
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Outcome::BrokenOff,
                },
            }
        }
        let Some(mut fresh) = self.connect().await else { return Outcome::NotConnected };
        match fresh.send_request(request).await {
            Ok(answer) => self.read(answer, fresh).await,
            Err(_) => Outcome::BrokenOff,
        }
    }

    fn kept(&self) -> Option<SendRequest<Full<Bytes>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    async fn connect(&self) -> Option<SendRequest<Full<Bytes>>> {
        let stream = TcpStream::connect(self.to).await.ok()?;
        stream.set_nodelay(true).ok()?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.ok()?;
        // Ends with its sender, and says there what it ended with.
        tokio::spawn(connection);
        Some(sender)
    }

    async fn read(&self, answer: Response<Incoming>, connection: SendRequest<Full<Bytes>>) -> Outcome {
        let status = answer.status().as_u16();
        let (mut body, mut bytes) = (answer.into_body(), 0);
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return Outcome::BrokenOff };
            bytes += frame.data_ref().map_or(0, Bytes::len);
            if bytes > ANSWER_BYTES_MAX {
                return Outcome::TooLarge;
            }
        }
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        Outcome::Answered(status)
    }
}
