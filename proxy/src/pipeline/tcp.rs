//! Raw TCP, both ways: who calls is known from the handshake, and judged before a byte goes further. What is carried is
//! never looked at, so that a server may speak first.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use palisade_policy::compile::Destination;
use palisade_policy::kind::service_entry::Protocol;
use palisade_policy::traffic::PoolBounds;
use palisade_policy::{ConnectionView, Decision, Permit, Snapshot};

use smallvec::SmallVec;

use super::inbound::open_record;
use super::outbound::describe;
use super::standing;
use crate::error::ProxyError;
use crate::http::transport::Transport;
use crate::identity::Identity;
use crate::listen::inbound::Inbound;
use crate::listen::outbound::Outbound;
use crate::stage::application;
use crate::stage::reach::{members, security};
use crate::stage::relay::{Terms, linger, relay};
use crate::telemetry::record::Record;
use crate::upstream::cluster::Visit;
use crate::upstream::connect::{Security, connect_tcp};
use crate::upstream::endpoint::{Local, Seen};
use crate::upstream::members::Picked;
use crate::worker::{Direction, Worker};

/// A connection from the mesh to the application, to its end.
pub(crate) async fn inbound(connection: &Inbound, caller: Transport) {
    let worker = &connection.worker;
    let mut record = open_record(connection);
    let permit = match judge_inbound(connection, &mut record) {
        Ok(permit) => permit,
        Err(error) => return refuse(&caller, record, &error),
    };
    let app = connection.serve.app;
    record.upstream_host = Some(app);
    let application = match connect_tcp(worker, app, &Security::Plaintext, None, &PoolBounds::DEFAULT).await {
        Ok(application) => application,
        Err(error) => return refuse(&caller, record, &ProxyError::Connection(error)),
    };
    let allowed =
        |snapshot: &Snapshot| matches!(snapshot.authorize_tcp(&view(connection)), Decision::Allow { .. });
    let (expires, serial) = (connection.expires, connection.serial());
    let terms = Terms { allowed: &allowed, expires, serial, life: None, keeps_alive: false };
    relay(permit, worker, caller, application, &mut record, terms).await;
}

/// Asks policy, all by one snapshot.
fn judge_inbound(connection: &Inbound, record: &mut Record) -> Result<Permit, ProxyError> {
    connection.worker.admit()?;
    let snapshot = connection.worker.shared.live.snapshot();
    let snapshot = standing::inbound(connection, &snapshot, record)?;
    let view = view(connection);
    if snapshot.has_observers() {
        record.observed(snapshot.observe_tcp(&view));
    }
    let permit = record.decided(snapshot.authorize_tcp(&view))?;
    application::well(&connection.worker, record)?;
    Ok(permit)
}

/// All that policy may look at.
fn view(connection: &Inbound) -> ConnectionView<'_> {
    let source_ip = connection.source.address.ip();
    ConnectionView {
        peer: connection.peer.as_ref().map(|peer| &peer.id),
        source_ip,
        remote_ip: source_ip,
        destination_ip: connection.local_ip,
        destination_port: connection.serve.port,
        sni: connection.sni.as_deref(),
    }
}

/// A connection of the application's to a named local port that leads to a TCP service, to its end.
pub(crate) async fn outbound(connection: &Outbound, caller: Transport) {
    let worker = &connection.worker;
    let mut record = Record::open(worker, Direction::Outbound, &connection.source);
    record.carries_tcp(worker.shared.limits.tcp_idle_timeout);
    let (permit, destination, identity) = match judge_outbound(connection, &mut record) {
        Ok(judged) => judged,
        Err(error) => return refuse(&caller, record, &error),
    };
    let bounds = &destination.traffic.pool;
    if let Some(idle) = bounds.idle_timeout {
        record.carries_tcp(idle);
    }
    let server = match reach(worker, &destination, &identity, &mut record).await {
        Ok(server) => server,
        Err(error) => return refuse(&caller, record, &error),
    };
    let (host, port) = (&destination.host, destination.port);
    let allowed = |snapshot: &Snapshot| {
        snapshot.destination(host, port).is_some_and(|now| {
            now.protocol == Protocol::Tcp
                && matches!(snapshot.authorize_outbound(now), Decision::Allow { .. })
        })
    };
    // The server's side knows when the certificates of both end.
    let serial = server.peer_serial();
    let terms = Terms {
        allowed: &allowed,
        expires: None,
        serial: serial.as_deref(),
        life: bounds.max_connection_duration,
        keeps_alive: bounds.keepalive.is_some(),
    };
    relay(permit, worker, caller, server, &mut record, terms).await;
}

/// Finds the destination and asks leave, all by one snapshot.
fn judge_outbound(
    connection: &Outbound,
    record: &mut Record,
) -> Result<(Permit, Arc<Destination>, Arc<Identity>), ProxyError> {
    let identity = standing::caller(&connection.worker, record)?;
    let snapshot = connection.worker.shared.live.snapshot();
    let snapshot = standing::snapshot(&snapshot, record)?;
    record.authority.clone_from(&connection.fixed);
    let destination = connection.fixed.as_ref().and_then(|fixed| snapshot.destination(fixed.as_str(), 0));
    let destination = destination.ok_or(ProxyError::UnknownDestination)?;
    describe(record, destination);
    let permit = record.decided(snapshot.authorize_outbound(destination))?;
    Ok((permit, destination.clone(), identity))
}

/// Opens a connection to the first endpoint that takes one. Nothing was sent yet, so that the next may be tried.
async fn reach(
    worker: &Rc<Worker>,
    destination: &Arc<Destination>,
    identity: &Identity,
    record: &mut Record,
) -> Result<Transport, ProxyError> {
    let security = security(destination, identity);
    let members = members(worker, destination).await?;
    let (cluster, bounds) = (&members.cluster, &destination.traffic.pool);
    // One connection is one request here.
    let admitted = cluster.enter_request(bounds).map_err(ProxyError::UpstreamOverflow)?;
    record.admitted = Some(admitted);
    let mut tried = SmallVec::<[SocketAddr; 4]>::new();
    loop {
        let endpoint = match members.pick(None, &tried) {
            Picked::Member(member) => &member.endpoint,
            Picked::Nobody => return Err(ProxyError::NoEndpoint),
            Picked::AllOut => return Err(ProxyError::NoHealthyEndpoint),
        };
        record.retries = u64::try_from(tried.len()).unwrap_or(u64::MAX);
        record.upstream_host = Some(endpoint.address);
        let visit = Visit::at(cluster, endpoint);
        let error = match connect_tcp(worker, endpoint.address, &security, Some(identity), bounds).await {
            Ok(server) => {
                visit.saw(Seen::Status(200));
                record.visit = Some(visit);
                return Ok(server);
            }
            Err(error) => error,
        };
        if error.is_of_endpoint() {
            visit.saw(Seen::Local(Local::Connect));
            cluster.avoid(endpoint, worker.shared.limits.endpoint_penalty, &error);
        }
        tried.push(endpoint.address);
        if !error.is_of_endpoint() || tried.len() >= members.len().min(worker.shared.limits.attempts_max) {
            return Err(ProxyError::Connection(error));
        }
    }
}

/// Nobody can be told why in bytes: the connection is reset, so that it is not taken for one that ended.
fn refuse(caller: &Transport, record: Box<Record>, error: &ProxyError) {
    let reason = error.consequence().reason;
    tracing::debug!(reason, %error, "connection not let through");
    linger(caller.socket(), Some(Duration::ZERO));
    record.tcp_refused(error);
}
