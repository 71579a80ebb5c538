//! Inbound: from the mesh to the application.

use std::rc::Rc;

use http::{Method, Request, Response, request};
use hyper::body::Incoming;
use palisade_policy::kind::request_match::MatchView;
use palisade_policy::request::token::Token;
use palisade_policy::{Decision, Permit, RequestView, Snapshot};

use super::exchange::Exchange;
use super::standing;
use super::terms::Terms;
use crate::concurrency::Place;
use crate::error::ProxyError;
use crate::http::body::ResponseBody;
use crate::http::normalize::{self, Target};
use crate::limit::Asked;
use crate::listen::inbound::Inbound;
use crate::stage::application;
use crate::stage::authenticate::{Believed, authenticate};
use crate::stage::deadline::Told;
use crate::stage::delivery;
use crate::stage::demand::demand;
use crate::stage::forward::{Route, To, address, forward};
use crate::stage::guard::{self, Guarded};
use crate::stage::identify;
use crate::stage::limit::{self, Moment};
use crate::stage::open::Kept;
use crate::stage::tunnel::Ends;
use crate::stage::wire::Manner;
use crate::telemetry::record::Record;
use crate::upstream::connect::Security;
use crate::worker::Direction;

/// Serves one request. The record is open before anything can fail, and written whatever happens.
pub(crate) async fn serve(connection: Rc<Inbound>, request: Request<Incoming>) -> Response<ResponseBody> {
    let record = open_record(&connection);
    let (mut exchange, mut head, body) =
        Exchange::begin(&connection.worker, Direction::Inbound, record, request);
    let told = match connection.peer {
        Some(_) => Told::by_sidecar(&head.headers, exchange.grpc),
        None => Told::by_stranger(&head.headers, exchange.grpc),
    };
    let Judged { permit, target, believed, kept, mut place } =
        match Box::pin(judge(&connection, &mut head, &mut exchange)).await {
            Ok(judged) => judged,
            Err(error) => return exchange.refuse(&error, Some(body)),
        };
    let mut route = match route(&connection, &exchange) {
        Ok(route) => route,
        Err(error) => return exchange.refuse(&error, Some(body)),
    };
    identify::set_client_cert(&mut head.headers, connection.client_cert.as_ref());
    exchange.record.limits.mark(&mut head.headers);
    let began = exchange.record.began();
    route.deadline = told.deadline(began.0, None);
    if let Some(deadline) = &route.deadline {
        deadline.tell_application(&mut head.headers, began);
    }
    let id = identify::request_id(&mut head.headers, || exchange.record.decision_id());
    exchange.record.set_request_id(id);
    address(&mut head, &target, route.wire, &route.security);
    let (method, token_expires) = (head.method.clone(), believed.as_ref().and_then(|b| b.expires));
    let held = Held { connection: connection.clone(), method, target, believed, kept };
    if let Err(error) = exchange.record.tie(Terms::Inbound(held)) {
        return exchange.refuse(&error, Some(body));
    }
    let outgoing = exchange.outgoing(head, body, Vec::new());
    let answer = match &mut place {
        None => forward(permit, &connection.worker, route, outgoing, &mut exchange.record).await,
        Some(place) => {
            let tally = exchange.record.tally.clone();
            let mut answer =
                Box::pin(forward(permit, &connection.worker, route, outgoing, &mut exchange.record));
            place.until_answered(&tally, answer.as_mut()).await
        }
    };
    application::answered(place, answer.as_ref().map(|answer| &answer.0));
    match answer {
        Ok(answer) => exchange.answer(answer, || Ends { expires: connection.expires, token_expires }),
        Err(error) => exchange.refuse(&error, None),
    }
}

/// Opens the record of a request or a connection, and counts it.
pub(crate) fn open_record(connection: &Inbound) -> Box<Record> {
    connection.called();
    record(connection)
}

/// A record with all that the connection knows.
pub(crate) fn record(connection: &Inbound) -> Box<Record> {
    let mut record = Record::open(&connection.worker, Direction::Inbound, &connection.source);
    record.source = connection.peer.as_ref().map(|peer| peer.id.clone());
    record.destination = connection.own.clone();
    record.service = connection.service.clone();
    record.upstream_cluster = Some(connection.cluster.clone());
    if connection.carries_tcp() {
        record.carries_tcp(connection.worker.shared.limits.tcp_idle_timeout);
    }
    record
}

/// Normalizes, looks at the token, then judges, all by one snapshot.
async fn judge(
    connection: &Inbound,
    head: &mut request::Parts,
    exchange: &mut Exchange,
) -> Result<Judged, ProxyError> {
    let record = &mut exchange.record;
    connection.worker.admit()?;
    if normalize::is_connect(head) {
        return Err(ProxyError::Connect);
    }
    let snapshot = connection.worker.shared.live.snapshot();
    let snapshot = standing::inbound(connection, &snapshot, record)?;
    if connection.peer.is_some() {
        record.limits.keep_marks(&head.headers);
    }
    let measure = guard::measure(snapshot, head);
    let may_keep = |host: &str, method: &str| snapshot.may_keep_ambiguous(host, method);
    let mut target =
        normalize::normalize_keeping(head, &snapshot.mesh, may_keep).map_err(ProxyError::Malformed)?;
    record.authority = Some(target.authority.clone());
    record.path = Some(target.path.clone());
    let address = connection.source.address.ip();
    let asked = Asked { address, headers: &head.headers, token: None };
    let matches = matched(&head.method, &target);
    limit::check(&connection.worker, snapshot, Moment::BeforeToken, matches, &asked, record).await?;
    let asked =
        guard::Asked { target: &target, route: None, measure, body: exchange.outline, preflight: false };
    let Guarded { body, readings } = guard::check(snapshot, head, &asked, record)?;
    exchange.body_guard = body;
    let authentication = snapshot.authentication();
    let believed = authenticate(&connection.worker, authentication, head, &mut target.path, record).await?;
    snapshot.judged_headers().strip_respelled(&mut head.headers);
    demand(snapshot, &matched(&head.method, &target), believed.as_ref(), record)?;
    for path in &readings {
        let matches = MatchView { path, ..matched(&head.method, &target) };
        demand(snapshot, &matches, believed.as_ref(), record)?;
    }
    let token = believed.as_ref().map(|believed| &*believed.token);
    let view = view(connection, &head.method, &head.headers, &target, token);
    if snapshot.has_observers() {
        record.observed(snapshot.observe(&view));
    }
    let permit = record.decided(snapshot.authorize(&view))?;
    for path in &readings {
        let _the_other_decides = record.decided(snapshot.authorize(&RequestView { path, ..view }))?;
    }
    application::well(&connection.worker, record)?;
    let asked = Asked { address, headers: &head.headers, token };
    let matches = matched(&head.method, &target);
    limit::check(&connection.worker, snapshot, Moment::AfterToken, matches, &asked, record).await?;
    let place = application::enter(connection.concurrency.as_ref())?;
    // Only what nothing else refuses is a delivery.
    delivery::watch(&connection.worker, snapshot, &head.method, target.path.path(), &head.headers, record)?;
    let kept = Kept::of(&head.headers, snapshot);
    Ok(Judged { permit, target, believed, kept, place })
}

/// What limits and demands for tokens are chosen by.
fn matched<'r>(method: &'r Method, target: &'r Target) -> MatchView<'r> {
    let (host, path) = (target.authority.as_str(), target.path.path());
    MatchView { host, method: method.as_str(), path, route: None }
}

/// All that policy may look at.
fn view<'r>(
    connection: &'r Inbound,
    method: &'r Method,
    headers: &'r http::HeaderMap,
    target: &'r Target,
    token: Option<&'r Token>,
) -> RequestView<'r> {
    let source_ip = connection.source.address.ip();
    RequestView {
        peer: connection.peer.as_ref().map(|peer| &peer.id),
        source_ip,
        remote_ip: source_ip,
        destination_ip: connection.local_ip,
        destination_port: connection.serve.port,
        method: method.as_str(),
        path: target.path.path(),
        host: target.authority.as_str(),
        headers,
        sni: connection.sni.as_deref(),
        token,
    }
}

/// To the application, in the protocol of its port.
fn route(connection: &Inbound, exchange: &Exchange) -> Result<Route, ProxyError> {
    let manner = Manner { grpc: exchange.grpc, upgrade: exchange.upgrade.is_some() };
    let limits = &connection.worker.shared.limits;
    Ok(Route {
        to: To::Application(connection.serve.app),
        wire: manner.wire(connection.serve.protocol)?,
        security: Security::Plaintext,
        identity: None,
        response_timeout: (!exchange.grpc).then_some(limits.response_timeout),
        deadline: None,
        retries: None,
        repeatable: false,
        hash: None,
    })
}

/// A request that may go on, in the form that it was judged in.
struct Judged {
    permit: Permit,
    target: Target,
    believed: Option<Believed>,
    kept: Kept,
    /// At the application.
    place: Option<Place>,
}

/// What is kept of a request under way, to judge it by each new snapshot.
pub(crate) struct Held {
    connection: Rc<Inbound>,
    method: Method,
    target: Target,
    believed: Option<Believed>,
    kept: Kept,
}

impl Held {
    pub(super) fn is_allowed(&self, snapshot: &Snapshot) -> bool {
        let Self { connection, method, target, believed, kept } = self;
        if !kept.suffice_for(snapshot) {
            return false;
        }
        let token = believed.as_ref().map(|believed| &*believed.token);
        let view = view(connection, method, &kept.headers, target, token);
        let matched = matched(method, target);
        let Ok(others) = guard::readings(snapshot, &matched, target) else { return false };
        let mut readings = std::iter::once(target.path.path()).chain(others.iter().map(String::as_str));
        readings.all(|path| {
            snapshot.authentication().demand(&MatchView { path, ..matched }, token).is_ok()
                && matches!(snapshot.authorize(&RequestView { path, ..view }), Decision::Allow { .. })
        })
    }

    pub(super) fn peer_serial(&self) -> Option<&str> {
        self.connection.serial()
    }
}
