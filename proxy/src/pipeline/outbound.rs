//! Outbound: from the application to services of the mesh, and to those outside that it was told of.

use std::rc::Rc;
use std::sync::Arc;

use http::uri::{Authority, Scheme};
use http::{Request, Response, request};
use hyper::body::Incoming;
use palisade_policy::compile::{Destination, Transport};
use palisade_policy::kind::service_entry::Protocol;
use palisade_policy::{Decision, Permit, Snapshot};

use super::exchange::Exchange;
use super::standing;
use super::terms::Terms;
use crate::error::ProxyError;
use crate::http::body::ResponseBody;
use crate::http::normalize::{self, Target};
use crate::identity::Identity;
use crate::listen::outbound::Outbound;
use crate::stage::again::is_idempotent;
use crate::stage::deadline::Told;
use crate::stage::forward::{address, forward};
use crate::stage::identify;
use crate::stage::reach::reach;
use crate::stage::tries::ATTEMPT_COUNT;
use crate::stage::tunnel::Ends;
use crate::stage::wire::Manner;
use crate::telemetry::record::Record;
use crate::worker::Direction;

/// An authority without a port means the scheme's (RFC 9110 section 4.2.1).
const HTTP_PORT: u16 = 80;

struct Judged {
    permit: Permit,
    target: Target,
    destination: Arc<Destination>,
    identity: Arc<Identity>,
}

/// Serves one request. The record is open before anything can fail, and written whatever happens.
pub(crate) async fn serve(connection: Rc<Outbound>, request: Request<Incoming>) -> Response<ResponseBody> {
    let record = Record::open(&connection.worker, Direction::Outbound, &connection.source);
    let (mut exchange, mut head, body) =
        Exchange::begin(&connection.worker, Direction::Outbound, record, request);
    let (began, clock) = exchange.record.began();
    let told = Told::by_application(&head.headers, exchange.grpc, clock);
    let Judged { permit, target, destination, identity } =
        match judge(&connection, &mut head, &mut exchange.record) {
            Ok(judged) => judged,
            Err(error) => return exchange.refuse(&error, Some(body)),
        };
    let id = identify::request_id(&mut head.headers, || exchange.record.decision_id());
    exchange.record.set_request_id(id);
    let manner = Manner { grpc: exchange.grpc, upgrade: exchange.upgrade.is_some() };
    let mut route = match reach(&connection.worker, &destination, identity, manner).await {
        Ok(route) => route,
        Err(error) => return exchange.refuse(&error, Some(body)),
    };
    route.deadline = told.deadline(began, None);
    route.repeatable = is_idempotent(&head.method);
    exchange.stick(&mut route, &head.headers, &target.path, connection.source.address.ip());
    head.headers.remove(ATTEMPT_COUNT);
    address(&mut head, &target, route.wire, &route.security);
    let held = Held { _connection: connection.clone(), destination };
    if let Err(error) = exchange.record.tie(Terms::Outbound(held)) {
        return exchange.refuse(&error, Some(body));
    }
    let outgoing = exchange.outgoing(head, body, Vec::new());
    match forward(permit, &connection.worker, route, outgoing, &mut exchange.record).await {
        Ok(answer) => exchange.answer(answer, Ends::default),
        Err(error) => exchange.refuse(&error, None),
    }
}

/// Normalizes, finds the destination and asks leave, all by one snapshot.
fn judge(
    connection: &Outbound,
    head: &mut request::Parts,
    record: &mut Record,
) -> Result<Judged, ProxyError> {
    if normalize::is_connect(head) {
        return Err(ProxyError::Connect);
    }
    if head.uri.scheme() == Some(&Scheme::HTTPS) && head.version <= http::Version::HTTP_11 {
        return Err(ProxyError::HttpsThroughProxy);
    }
    let identity = standing::caller(&connection.worker, record)?;
    let snapshot = connection.worker.shared.live.snapshot();
    let snapshot = standing::snapshot(&snapshot, record)?;
    let mut target = normalize::normalize(head, &snapshot.mesh).map_err(ProxyError::Malformed)?;
    if let Some(fixed) = &connection.fixed {
        // A named local port: the application wrote the port's own address, which means nothing to the service.
        target.authority = fixed.clone();
    }
    record.authority = Some(target.authority.clone());
    record.path = Some(target.path.clone());
    let destination = snapshot.destination(target.authority.as_str(), HTTP_PORT);
    let destination = destination.ok_or(ProxyError::UnknownDestination)?;
    describe(record, destination);
    if destination.protocol == Protocol::Tcp {
        return Err(ProxyError::NotHttp);
    }
    let permit = record.decided(snapshot.authorize_outbound(destination))?;
    Ok(Judged { permit, target, destination: destination.clone(), identity })
}

pub(super) fn describe(record: &mut Record, destination: &Destination) {
    record.service = Some(destination.host.clone());
    record.upstream_cluster = Some(destination.cluster.clone());
    if let Transport::Mesh { identities } = &destination.transport {
        record.mesh_upstream = true;
        if identities.len() == 1 {
            record.destination = identities.first().cloned();
        }
    }
}

/// A request stays as long as the workload may know its destination.
pub(crate) struct Held {
    _connection: Rc<Outbound>,
    destination: Arc<Destination>,
}

impl Held {
    pub(super) fn is_allowed(&self, snapshot: &Snapshot) -> bool {
        snapshot.destination(&self.destination.host, self.destination.port).is_some_and(|destination| {
            matches!(snapshot.authorize_outbound(destination), Decision::Allow { .. })
        })
    }
}

/// The authority that stands for a named local port.
pub(crate) fn fixed_authority(host: &str, port: u16) -> Option<Authority> {
    Authority::try_from(format!("{host}:{port}")).ok()
}
