//! Outbound: from the application to services of the mesh, and to those outside that it was told of.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::uri::{Authority, Scheme};
use http::{Request, Response, request};
use hyper::body::Incoming;
use palisade_policy::compile::routes::RouteTable;
use palisade_policy::compile::{Destination, Transport};
use palisade_policy::kind::service_entry::Protocol;
use palisade_policy::{Decision, Permit, Snapshot};

use super::copies::copies;
use super::exchange::Exchange;
use super::standing;
use super::terms::Terms;
use crate::error::ProxyError;
use crate::http::body::ResponseBody;
use crate::http::normalize::{self, Target};
use crate::identity::Identity;
use crate::listen::outbound::Outbound;
use crate::stage::again::is_repeatable;
use crate::stage::cors::{Leave, preflight};
use crate::stage::deadline::Told;
use crate::stage::forward::{address, forward};
use crate::stage::identify;
use crate::stage::mirror::{Mirror, Original};
use crate::stage::reach::reach;
use crate::stage::route::{self, Forwarding};
use crate::stage::tries::ATTEMPT_COUNT;
use crate::stage::tunnel::Ends;
use crate::stage::wire::Manner;
use crate::telemetry::record::Record;
use crate::worker::Direction;

/// An authority without a port means the scheme's (RFC 9110 section 4.2.1).
const HTTP_PORT: u16 = 80;
/// What applications call services by, and routes are chosen by: the sidecar encrypts.
const SCHEME: &str = "http";

/// What becomes of a request that is not refused.
enum Verdict {
    Forward(Going),
    /// A route answers, for this reason.
    Answer(Response<Bytes>, &'static str),
}

/// A request with leave to go on.
struct Going {
    permit: Permit,
    target: Target,
    destination: Arc<Destination>,
    identity: Arc<Identity>,
    /// Where the destination that was asked for has routes.
    routed: Option<Box<(Forwarding, Vec<Mirror>)>>,
}

/// Serves one request. The record is open before anything can fail, and written whatever happens.
pub(crate) async fn serve(connection: Rc<Outbound>, request: Request<Incoming>) -> Response<ResponseBody> {
    let worker = &connection.worker;
    let record = Record::open(worker, Direction::Outbound, &connection.source);
    let (mut exchange, mut head, body) = Exchange::begin(worker, Direction::Outbound, record, request);
    let told = Told::by_application(&head.headers, exchange.grpc, exchange.record.began().1);
    let Going { permit, target, destination, identity, routed } =
        match judge(&connection, &mut head, &mut exchange) {
            Ok(Verdict::Forward(going)) => going,
            Ok(Verdict::Answer(answer, details)) => return exchange.respond(answer, details, body),
            Err(error) => return exchange.refuse(&error, Some(body)),
        };
    let id = identify::request_id(&mut head.headers, || exchange.record.decision_id());
    exchange.record.set_request_id(id);
    let held = Held { _connection: connection.clone(), destination: destination.clone() };
    let (forwarding, mirrors) = routed.map_or((None, Vec::new()), |routed| (Some(routed.0), routed.1));
    if let Err(error) = exchange.hold(Terms::Outbound(held), forwarding.as_ref(), told).await {
        mirrors.into_iter().for_each(Mirror::give_up);
        return exchange.refuse(&error, Some(body));
    }
    let manner = Manner { grpc: exchange.grpc, upgrade: exchange.upgrade.is_some() };
    let mut way = match reach(worker, &destination, identity.clone(), manner).await {
        Ok(way) => way,
        Err(error) => {
            mirrors.into_iter().for_each(Mirror::give_up);
            return exchange.refuse(&error, Some(body));
        }
    };
    exchange.time(&mut way, told, forwarding.as_ref().and_then(Forwarding::timeout));
    way.repeatable = is_repeatable(&destination, &head.method, target.path.path(), &head.headers);
    exchange.stick(&mut way, &head.headers, &target.path, connection.source.address.ip());
    head.headers.remove(ATTEMPT_COUNT);
    let mut copies = Vec::new();
    if let Some(forwarding) = forwarding {
        way.retries = forwarding.retries().cloned();
        let grpc = exchange.grpc;
        let original = Original { worker, head: &head, forwarding: &forwarding, identity: &identity, grpc };
        copies = original.send_copies(mirrors);
        exchange.dress.forwarding = Some(forwarding);
    }
    address(&mut head, &target, way.wire, &way.security);
    let outgoing = exchange.outgoing(head, body, copies);
    match forward(permit, worker, way, outgoing, &mut exchange.record).await {
        Ok(answer) => exchange.answer(answer, Ends::default),
        Err(error) => exchange.refuse(&error, None),
    }
}

/// Normalizes, finds the destination and the route to it, and asks leave, all by one snapshot.
fn judge(
    connection: &Outbound,
    head: &mut request::Parts,
    exchange: &mut Exchange,
) -> Result<Verdict, ProxyError> {
    if normalize::is_connect(head) {
        return Err(ProxyError::Connect);
    }
    if head.uri.scheme() == Some(&Scheme::HTTPS) && head.version <= http::Version::HTTP_11 {
        return Err(ProxyError::HttpsThroughProxy);
    }
    let record = &mut exchange.record;
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
    if let Some(table) = snapshot.mesh_routes(destination) {
        let asked = Asked { connection, snapshot, destination, table };
        return asked.take_route(head, target, identity, exchange);
    }
    let permit = record.decided(snapshot.authorize_outbound(destination))?;
    let destination = destination.clone();
    Ok(Verdict::Forward(Going { permit, target, destination, identity, routed: None }))
}

/// A destination that was asked for and has routes.
struct Asked<'s> {
    connection: &'s Outbound,
    snapshot: &'s Snapshot,
    destination: &'s Destination,
    table: &'s RouteTable,
}

impl Asked<'_> {
    /// The route may lead anywhere that the workload may go; that is judged, not what was asked for.
    fn take_route(
        &self,
        head: &mut request::Parts,
        mut target: Target,
        identity: Arc<Identity>,
        exchange: &mut Exchange,
    ) -> Result<Verdict, ProxyError> {
        let Self { connection, snapshot, destination, table } = self;
        let record = &mut exchange.record;
        let (authority, path) = (&target.authority, &target.path);
        let view = route::view(head, authority, path, SCHEME, destination.port, None);
        let chosen = table.find(&view).ok_or(ProxyError::NoRoute)?;
        record.route = Some(chosen.id.clone());
        if let Some(cors) = &chosen.cors {
            if let Some(answer) = preflight(cors, &head.method, &head.headers) {
                return Ok(Verdict::Answer(answer, "cors_preflight"));
            }
            exchange.dress.leave = Some(Leave::of(cors, &head.headers));
        }
        let forwarding = route::forwarding(chosen, &view, authority, path, &snapshot.mesh, route::random)?;
        let Some(forwarding) = forwarding else {
            let _for_nothing_that_is_sent = record.decided(snapshot.authorize_outbound(destination))?;
            let answer = route::own_answer(chosen, SCHEME, authority, path);
            return Ok(Verdict::Answer(answer.ok_or(ProxyError::UncleanRewrite)?, route::details(chosen)));
        };
        describe(record, &forwarding.destination);
        let permit = record.decided(snapshot.authorize_outbound(&forwarding.destination))?;
        let authorize = |destination: &Destination| snapshot.authorize_outbound(destination);
        let mirrors = match exchange.upgrade {
            // What would follow is no request.
            Some(_) => Vec::new(),
            None => {
                let (worker, source) = (&connection.worker, &connection.source);
                copies(worker, Direction::Outbound, source, record, &forwarding, authorize)
            }
        };
        forwarding.change_request(&mut head.headers);
        target.authority = forwarding.authority.clone();
        target.path = forwarding.path.clone();
        let destination = forwarding.destination.clone();
        let routed = Some(Box::new((forwarding, mirrors)));
        Ok(Verdict::Forward(Going { permit, target, destination, identity, routed }))
    }
}

pub(super) fn describe(record: &mut Record, destination: &Destination) {
    record.service = Some(destination.host.clone());
    record.upstream_cluster = Some(destination.cluster.clone());
    let identities = match &destination.transport {
        Transport::Mesh { identities } => Some(identities),
        Transport::Plaintext | Transport::Tls { .. } => None,
    };
    record.mesh_upstream = identities.is_some();
    record.destination = identities.filter(|ids| ids.len() == 1).and_then(|ids| ids.first().cloned());
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
