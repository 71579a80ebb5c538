//! How a destination is reached: its endpoints in order, and what is spoken with them.

use std::sync::Arc;

use palisade_policy::compile::{Destination, Target as Endpoint, Transport};

use super::forward::Route;
use super::wire::Manner;
use crate::error::ProxyError;
use crate::identity::Identity;
use crate::upstream::balance::Candidates;
use crate::upstream::connect::Security;
use crate::worker::Worker;

/// Resolves and orders the endpoints. `identity`: ours, which the request was judged with.
pub(crate) async fn reach(
    worker: &Worker,
    destination: &Destination,
    identity: Arc<Identity>,
    manner: Manner,
) -> Result<Route, ProxyError> {
    let wire = match &destination.transport {
        Transport::Mesh { .. } => manner.wire_in_mesh(destination.protocol)?,
        Transport::Plaintext | Transport::Tls { .. } => manner.wire(destination.protocol)?,
    };
    Ok(Route {
        candidates: candidates(worker, destination).await?,
        wire,
        security: security(destination, &identity),
        identity: Some(identity),
        response_timeout: (!manner.grpc).then_some(worker.shared.limits.response_timeout),
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

/// The destination's endpoints in the order to be tried; names are resolved.
pub(crate) async fn candidates(worker: &Worker, destination: &Destination) -> Result<Candidates, ProxyError> {
    let limits = &worker.shared.limits;
    let mut candidates = Candidates::new();
    for endpoint in &destination.endpoints {
        match endpoint {
            Endpoint::Address { address, .. } => candidates.push(*address),
            Endpoint::Name { host, port, .. } => {
                let resolved = worker.resolver.resolve(host, *port, limits).await;
                candidates.extend_from_slice(&resolved.map_err(ProxyError::Connection)?);
            }
        }
    }
    worker.balancer.order(&mut candidates, limits);
    Ok(candidates)
}
