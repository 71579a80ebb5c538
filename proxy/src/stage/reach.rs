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
    let limits = &worker.shared.limits;
    let (security, wire) = match &destination.transport {
        Transport::Mesh { identities } => {
            let (identities, server_name) = (identities.clone(), destination.host.clone());
            let security = Security::Mesh { generation: identity.generation, identities, server_name };
            (security, manner.wire_in_mesh(destination.protocol)?)
        }
        Transport::Plaintext => (Security::Plaintext, manner.wire(destination.protocol)?),
        Transport::Tls { settings, server_name } => {
            let security = Security::Tls { settings: settings.clone(), server_name: server_name.clone() };
            (security, manner.wire(destination.protocol)?)
        }
    };
    let mut candidates = Candidates::new();
    for endpoint in &destination.endpoints {
        match endpoint {
            Endpoint::Address { address, .. } => candidates.push(*address),
            Endpoint::Name { host, port } => {
                let resolved = worker.resolver.resolve(host, *port, limits).await;
                candidates.extend_from_slice(&resolved.map_err(ProxyError::Connection)?);
            }
        }
    }
    worker.balancer.order(&mut candidates, limits);
    Ok(Route {
        candidates,
        wire,
        security,
        identity: Some(identity),
        response_timeout: (!manner.grpc).then_some(limits.response_timeout),
    })
}
