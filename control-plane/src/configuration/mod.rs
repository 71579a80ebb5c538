//! The configuration service: one stream per proxy.

mod calls;
mod hello;
mod session;

use std::sync::Arc;

use palisade_identity::SpiffeId;
use palisade_policy::Workload;
use palisade_proto::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::clock::from_seconds;
use crate::context::{Context, unavailable};
use crate::identity;
use crate::peer::Peer;
use session::{Outgoing, Session};

/// Messages made but not yet taken by HTTP/2. One: the next one is made when there is room for it, from the newest
/// state, so that a slow proxy costs one snapshot and no queue.
const OUTGOING_MESSAGES: usize = 1;

pub(crate) struct Service(pub(crate) Arc<Context>);

#[tonic::async_trait]
impl v1::configuration_server::Configuration for Service {
    type StreamStream = ReceiverStream<Outgoing>;

    async fn stream(
        &self,
        request: Request<Streaming<v1::ProxyMessage>>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        let context = Arc::clone(&self.0);
        let peer = Peer::of(request.extensions())?;
        let address = peer.address;
        let certificate = peer.workload(context.clock.now())?.clone();
        let row = context.store.instance_of(&certificate.serial).await.map_err(|e| unavailable(&e))?;
        let Some(row) = row.filter(|row| row.spiffe_id == certificate.id.as_str()) else {
            tracing::warn!(
                peer.addr = %address, peer.id = %certificate.id, serial = certificate.serial,
                "stream refused: unknown certificate"
            );
            return Err(Status::permission_denied("this certificate is not known; attest anew"));
        };
        let (sender, receiver) = mpsc::channel(OUTGOING_MESSAGES);
        if let Some(reason) = row.evicted_reason {
            context.tasks.spawn(session::say_evicted(sender, reason));
            return Ok(Response::new(ReceiverStream::new(receiver)));
        }
        let workload = workload(&row.spiffe_id, &row.labels)?;
        let session = Session {
            context: Arc::clone(&context),
            instance: row.id,
            workload,
            svid_not_after: from_seconds(row.not_after),
            certificate,
            address,
            incoming: request.into_inner(),
            outgoing: sender,
            ports: Vec::new(),
        };
        context.tasks.spawn(session.run());
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

fn workload(id: &str, labels: &str) -> Result<Workload, Status> {
    let id =
        SpiffeId::parse(id).map_err(|_| Status::internal("the store holds an id that cannot be read"))?;
    Ok(Workload { id, labels: identity::labels(labels)? })
}
