//! OTLP: protocol buffers posted over HTTP/1.1, or gRPC. One connection, kept while it works.

mod grpc;
mod http;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::settings::limits::Limits;
use crate::settings::trace::{Collector, OtlpProtocol};
use crate::upstream::roots::client_config;

/// Why the collector did not take spans.
#[derive(Debug)]
pub(super) struct Fault {
    why: String,
    /// The same may be taken later.
    pub(super) may_pass: bool,
    /// The connection broke: that says nothing of the collector if it was an old one.
    broken: bool,
    /// What the collector asks for.
    pub(super) retry_after: Option<Duration>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl Fault {
    fn passing(why: impl fmt::Display) -> Self {
        Self { why: why.to_string(), may_pass: true, broken: true, retry_after: None }
    }

    fn lasting(why: impl fmt::Display) -> Self {
        Self { why: why.to_string(), may_pass: false, broken: false, retry_after: None }
    }
}

enum Link {
    Http(http::Link),
    Grpc(grpc::Link),
}

pub(super) struct Transport {
    collector: Collector,
    limits: Arc<Limits>,
    link: Option<Link>,
}

/// A connection to the collector.
enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Transport {
    pub(super) fn new(collector: Collector, limits: Arc<Limits>) -> Self {
        Self { collector, limits, link: None }
    }

    /// How many spans were not taken, although the rest was.
    pub(super) async fn send(&mut self, request: &ExportTraceServiceRequest) -> Result<u64, Fault> {
        // Whatever goes wrong, the next try is made on a new connection.
        let kept = self.link.take();
        let sending = async {
            if kept.is_some() {
                match send(kept, &self.collector, &self.limits, request).await {
                    Err(fault) if fault.broken => {}
                    ended => return ended,
                }
            }
            send(None, &self.collector, &self.limits, request).await
        };
        let limit = self.limits.span_export_timeout;
        let late = |_elapsed| Err(Fault::passing(format_args!("no answer in {limit:?}")));
        let (response, link) = tokio::time::timeout(limit, sending).await.unwrap_or_else(late)?;
        self.link = Some(link);
        let partly = response.partial_success.unwrap_or_default();
        if !partly.error_message.is_empty() {
            tracing::debug!(message = partly.error_message, "the collector says something about traces");
        }
        Ok(u64::try_from(partly.rejected_spans).unwrap_or_default())
    }
}

async fn send(
    link: Option<Link>,
    collector: &Collector,
    limits: &Limits,
    request: &ExportTraceServiceRequest,
) -> Result<(ExportTraceServiceResponse, Link), Fault> {
    let mut link = match link {
        Some(Link::Http(link)) if !link.is_open() => connect(collector, limits).await?,
        Some(link) => link,
        None => connect(collector, limits).await?,
    };
    let response = match &mut link {
        Link::Http(link) => link.send(collector, limits, request).await?,
        Link::Grpc(link) => link.send(collector, request).await?,
    };
    Ok((response, link))
}

async fn connect(collector: &Collector, limits: &Limits) -> Result<Link, Fault> {
    let (io, is_grpc) = (open(collector).await?, collector.protocol == OtlpProtocol::Grpc);
    Ok(match (io, is_grpc) {
        (Io::Plain(io), false) => Link::Http(http::Link::over(io).await?),
        (Io::Tls(io), false) => Link::Http(http::Link::over(io).await?),
        (Io::Plain(io), true) => Link::Grpc(grpc::Link::over(io, collector, limits).await?),
        (Io::Tls(io), true) => Link::Grpc(grpc::Link::over(io, collector, limits).await?),
    })
}

async fn open(collector: &Collector) -> Result<Io, Fault> {
    let endpoint = &collector.endpoint;
    let tcp = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await.map_err(Fault::passing)?;
    tcp.set_nodelay(true).map_err(Fault::passing)?;
    if !endpoint.tls {
        return Ok(Io::Plain(tcp));
    }
    let name = ServerName::try_from(endpoint.host.clone()).map_err(Fault::lasting)?;
    let config = client_config(collector.ca.as_deref(), "--otlp-ca").await.map_err(Fault::passing)?;
    let mut config = (*config).clone();
    if collector.protocol == OtlpProtocol::Grpc {
        config.alpn_protocols = vec![b"h2".to_vec()];
    }
    let tls = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.map_err(Fault::passing)?;
    Ok(Io::Tls(Box::new(tls)))
}
