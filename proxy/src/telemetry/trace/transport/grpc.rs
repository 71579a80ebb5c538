//! OTLP over gRPC (OTLP specification, section OTLP/gRPC).

use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Extensions, Request, Status};

use super::Fault;
use super::http::AGENT;
use crate::settings::limits::Limits;
use crate::settings::trace::Collector;

pub(super) struct Link(TraceServiceClient<Channel>);

impl Link {
    pub(super) async fn over<S>(io: S, collector: &Collector, limits: &Limits) -> Result<Self, Fault>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let mut once = Some(TokioIo::new(io));
        let connector = tower::service_fn(move |_: Uri| {
            let ended = || std::io::Error::other("the connection has ended");
            std::future::ready(once.take().ok_or_else(ended))
        });
        let scheme = if collector.endpoint.tls { "https" } else { "http" };
        let channel = Endpoint::from_shared(format!("{scheme}://{}", collector.endpoint.authority()))
            .and_then(|endpoint| endpoint.user_agent(AGENT))
            .map_err(Fault::lasting)?
            .connect_with_connector(connector)
            .await
            .map_err(Fault::passing)?;
        let client = TraceServiceClient::new(channel);
        Ok(Self(client.max_decoding_message_size(limits.span_answer_bytes_max)))
    }

    pub(super) async fn send(
        &mut self,
        collector: &Collector,
        request: &ExportTraceServiceRequest,
    ) -> Result<ExportTraceServiceResponse, Fault> {
        let metadata = MetadataMap::from_headers(collector.headers.iter().cloned().collect());
        let request = Request::from_parts(metadata, Extensions::default(), request.clone());
        Ok(self.0.export(request).await.map_err(|status| fault(&status))?.into_inner())
    }
}

fn fault(status: &Status) -> Fault {
    let passing = matches!(
        status.code(),
        Code::Cancelled
            | Code::DeadlineExceeded
            | Code::ResourceExhausted
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unavailable
            | Code::DataLoss
    );
    let broken = std::error::Error::source(status).is_some();
    let why = format!("it answers {:?}: {}", status.code(), status.message());
    Fault { why, may_pass: passing || broken, broken, retry_after: None }
}
