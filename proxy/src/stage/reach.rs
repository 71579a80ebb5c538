//! How a destination is reached: its endpoints, and what is spoken with them.

use std::rc::Rc;
use std::sync::Arc;

use palisade_policy::compile::{Destination, Transport};

use super::forward::{Route, To};
use super::wire::Manner;
use crate::error::ProxyError;
use crate::identity::Identity;
use crate::upstream::connect::Security;
use crate::upstream::members::Members;
use crate::worker::Worker;

/// Resolves and orders the endpoints. `identity`: ours, which the request was judged with.
pub(crate) async fn reach(
    worker: &Worker,
    destination: &Arc<Destination>,
    identity: Arc<Identity>,
    manner: Manner,
) -> Result<Route, ProxyError> {
    let wire = match &destination.transport {
        Transport::Mesh { .. } => manner.wire_in_mesh(destination.protocol)?,
        Transport::Plaintext | Transport::Tls { .. } => manner.wire(destination.protocol)?,
    };
    Ok(Route {
        to: To::Members(members(worker, destination).await?),
        wire,
        security: security(destination, &identity),
        identity: Some(identity),
        response_timeout: (!manner.grpc).then_some(worker.shared.limits.response_timeout),
        deadline: None,
        retries: None,
        repeatable: false,
        hash: None,
    })
}

/// What a connection to the destination has to prove, and be proved.
pub(crate) fn security(destination: &Destination, identity: &Identity) -> Security {
    match &destination.transport {
        Transport::Mesh { identities } => Security::Mesh {
            generation: identity.generation,
            identities: identities.clone(),
            server_name: destination.host.clone(),
        },
        Transport::Plaintext => Security::Plaintext,
        Transport::Tls { settings, server_name } => {
            Security::Tls { settings: settings.clone(), server_name: server_name.clone() }
        }
    }
}

/// The destination's endpoints; names are resolved.
pub(crate) async fn members(
    worker: &Worker,
    destination: &Arc<Destination>,
) -> Result<Rc<Members>, ProxyError> {
    let shared = &worker.shared;
    let (upstreams, experiments) = (&shared.upstreams, &shared.live.experiments);
    let members = worker.known.members(destination, upstreams, experiments, &worker.resolver, &shared.limits);
    members.await.map_err(ProxyError::Connection)
}
