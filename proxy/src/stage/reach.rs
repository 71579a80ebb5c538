//! How a destination is reached: its endpoints in order, and what is spoken with them.

use std::sync::Arc;

use palisade_policy::compile::{Destination, Target as Endpoint, Transport};
use palisade_policy::kind::service_entry::Protocol;

use super::forward::Route;
use crate::identity::Identity;
use crate::upstream::balance::Candidates;
use crate::upstream::connect::{ConnectError, Security, Wire};
use crate::worker::Worker;

/// What a request asks of the connection that it is sent on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    pub(crate) grpc: bool,
    pub(crate) upgrade: bool,
}

/// Resolves and orders the endpoints. `identity`: ours, which the request was judged with.
pub(crate) async fn reach(
    worker: &Worker,
    destination: &Destination,
    identity: Arc<Identity>,
    manner: Manner,
) -> Result<Route, ConnectError> {
    let limits = &worker.shared.limits;
    let mut candidates = Candidates::new();
    for endpoint in &destination.endpoints {
        match endpoint {
            Endpoint::Address { address, .. } => candidates.push(*address),
            Endpoint::Name { host, port } => {
                candidates.extend_from_slice(&worker.resolver.resolve(host, *port, limits).await?);
            }
        }
    }
    worker.balancer.order(&mut candidates, limits);
    let http2 = matches!(destination.protocol, Protocol::Http2 | Protocol::Grpc) || manner.grpc;
    let (security, http2) = match &destination.transport {
        Transport::Mesh { identities } => {
            let (identities, server_name) = (identities.clone(), destination.host.clone());
            (Security::Mesh { generation: identity.generation, identities, server_name }, true)
        }
        Transport::Plaintext => (Security::Plaintext, http2),
        Transport::Tls { settings, server_name } => {
            (Security::Tls { settings: settings.clone(), server_name: server_name.clone() }, http2)
        }
    };
    Ok(Route {
        candidates,
        // Upgrades exist in HTTP/1.1 only, as far as we take them.
        wire: if http2 && !manner.upgrade { Wire::Http2 } else { Wire::Http1 },
        security,
        identity: Some(identity),
        response_timeout: (!manner.grpc).then_some(limits.response_timeout),
    })
}
