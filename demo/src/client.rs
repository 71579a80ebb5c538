//! HTTP/1.1 as an application speaks it: to a service, or through the HTTP_PROXY of its sidecar.

use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;

use crate::door::Door;

/// One request and its answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The demo's answers are some hundred bytes.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
pub(crate) const REQUEST_ID: &str = "x-request-id";
const DECISION_ID: &str = "x-palisade-decision-id";

/// An answer, whole.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    /// Status and body in one line; of a refusal by a proxy the words that matter.
    pub(crate) fn line(&self) -> String {
        let status = self.status.as_u16();
        if !self.decision_id().is_empty() {
            let title = self.status.canonical_reason().unwrap_or_default();
            let told = ["www-authenticate", "retry-after"].map(|name| match self.header(name) {
                "" => String::new(),
                value => format!("; {name}: {value}"),
            });
            return format!("{status} {title}, decision {}{}", self.decision_id(), told.concat());
        }
        let body: String = self.body.split_whitespace().collect::<Vec<_>>().join(" ");
        format!("{status} {body}")
    }

    /// A header as text; empty where it is absent.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Set by a sidecar that refuses.
    pub(crate) fn decision_id(&self) -> &str {
        self.header(DECISION_ID)
    }
}

/// A connection kept open over several requests.
#[derive(Debug)]
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    /// Ends with the connection and knows why it did.
    driver: JoinHandle<hyper::Result<()>>,
}

impl Connection {
    pub(crate) async fn open(door: &Door) -> Result<Self> {
        Self::over(door.connect().await?).await
    }

    pub(crate) async fn over<S>(stream: S) -> Result<Self>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        Ok(Self { sender, driver: tokio::spawn(connection) })
    }

    /// `url` is absolute for an HTTP_PROXY; `host` is then its authority.
    pub(crate) async fn send(&mut self, method: Method, url: &str, host: &str, body: &str) -> Result<Answer> {
        self.request(request(method, url, host, body)?).await
    }

    pub(crate) async fn request(&mut self, request: Request<Full<Bytes>>) -> Result<Answer> {
        let answer = async {
            match self.exchange(request).await {
                // The sender knows only that the connection has ended.
                Err(error) if self.sender.is_closed() => match (&mut self.driver).await {
                    Ok(Err(cause)) => Err(cause.into()),
                    _ => Err(error),
                },
                answer => answer,
            }
        };
        tokio::time::timeout(TIMEOUT, answer).await.context("no answer in time")?
    }

    async fn exchange(&mut self, request: Request<Full<Bytes>>) -> Result<Answer> {
        self.sender.ready().await?;
        let (head, body) = self.sender.send_request(request).await?.into_parts();
        #[expect(clippy::disallowed_methods, reason = "limited")]
        let body = Limited::new(body, ANSWER_BYTES_MAX)
            .collect()
            .await
            .map_err(|error| anyhow::anyhow!("the answer broke off: {error}"))?;
        let body = String::from_utf8_lossy(&body.to_bytes()).into_owned();
        Ok(Answer { status: head.status, headers: head.headers, body })
    }
}

/// One request through an HTTP_PROXY, on a connection of its own. `id` is what it is known by already.
pub(crate) async fn through(
    proxy: &Door,
    method: Method,
    url: &str,
    body: &str,
    id: Option<&str>,
) -> Result<Answer> {
    let uri: Uri = url.parse().with_context(|| format!("{url} is no URL"))?;
    let host = uri.authority().with_context(|| format!("{url} has no host"))?.to_string();
    let mut request = request(method, url, &host, body)?;
    if let Some(id) = id {
        request.headers_mut().insert(REQUEST_ID, id.parse()?);
    }
    Connection::open(proxy).await?.request(request).await
}

/// A request with a body in JSON.
pub(crate) fn request(method: Method, url: &str, host: &str, body: &str) -> Result<Request<Full<Bytes>>> {
    let request = Request::builder()
        .method(method)
        .uri(url)
        .header(HOST, host)
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::copy_from_slice(body.as_bytes())));
    request.with_context(|| format!("{url} is no URL"))
}

/// One request straight to an address.
pub(crate) async fn direct(door: &Door, method: Method, path: &str, body: &str) -> Result<Answer> {
    Connection::open(door).await?.send(method, path, &door.address.to_string(), body).await
}
