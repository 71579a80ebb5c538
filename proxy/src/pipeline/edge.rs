//! Edge: from outside into the mesh, or to an upstream that the edge was told of.

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderValue, LOCATION};
use http::{Method, Request, Response, StatusCode, request};
use hyper::body::Incoming;
use palisade_policy::compile::edge::Server;
use palisade_policy::compile::routes::{Action, Route, RouteView};
use palisade_policy::kind::gateway::host::plain_host;
use palisade_policy::kind::request_match::MatchView;
use palisade_policy::request::token::Token;
use palisade_policy::{Decision, Permit, RequestView, Snapshot};

use super::copies::copies;
use super::exchange::Exchange;
use super::outbound::describe;
use super::standing;
use super::terms::Terms;
use crate::edge::claims::{Origin, strip_claims, strip_trace};
use crate::error::ProxyError;
use crate::http::body::ResponseBody;
use crate::http::headers::{REQUEST_ID, is_folded, remove_where};
use crate::http::normalize::{self, Target};
use crate::identity::Identity;
use crate::limit::Asked;
use crate::listen::edge::EdgeConnection;
use crate::stage::again::is_repeatable;
use crate::stage::authenticate::{Believed, authenticate, with_outputs_kept};
use crate::stage::cors::{Leave, preflight};
use crate::stage::deadline::Told;
use crate::stage::demand::demand;
use crate::stage::forward::{address, forward};
use crate::stage::guard::{self, Guarded};
use crate::stage::identify;
use crate::stage::limit::{self, Moment};
use crate::stage::mirror::{Mirror, Original};
use crate::stage::open::Kept;
use crate::stage::reach::reach;
use crate::stage::route::{self, Forwarding};
use crate::stage::tunnel::Ends;
use crate::stage::wire::Manner;
use crate::telemetry::record::Record;
use crate::worker::Direction;

/// What becomes of a request that is not refused.
enum Verdict {
    Forward(Box<Going>),
    /// The edge answers itself, for this reason.
    Answer(Response<Bytes>, &'static str),
}

/// A request with leave to go on.
struct Going {
    permit: Permit,
    forwarding: Forwarding,
    identity: Arc<Identity>,
    held: Box<Held>,
    mirrors: Vec<Mirror>,
}

/// What is kept of a request under way, in the form that it was judged in, to judge it by each new snapshot.
pub(crate) struct Held {
    connection: Rc<EdgeConnection>,
    method: Method,
    target: Target,
    believed: Option<Believed>,
    origin: Origin,
    kept: Kept,
}

/// Serves one request. The record is open before anything can fail, and written whatever happens.
pub(crate) async fn serve(
    connection: Rc<EdgeConnection>,
    request: Request<Incoming>,
) -> Response<ResponseBody> {
    let worker = &connection.worker;
    let (mut exchange, mut head, body) =
        Exchange::begin(worker, Direction::Edge, open_record(&connection), request);
    let told = Told::by_stranger(&head.headers, exchange.grpc);
    let going = match Box::pin(judge(&connection, &mut head, &mut exchange)).await {
        Ok(Verdict::Forward(going)) => *going,
        Ok(Verdict::Answer(answer, details)) => return exchange.respond(answer, details, body),
        Err(error) => return exchange.refuse(&error, Some(body)),
    };
    let Going { permit, forwarding, identity, held, mirrors } = going;
    let token_expires = held.believed.as_ref().and_then(|believed| believed.expires);
    let client = held.origin.client;
    if let Err(error) = exchange.hold(Terms::Edge(held), Some(&forwarding), told).await {
        mirrors.into_iter().for_each(Mirror::give_up);
        return exchange.refuse(&error, Some(body));
    }
    let manner = Manner { grpc: exchange.grpc, upgrade: exchange.upgrade.is_some() };
    let destination = forwarding.destination.clone();
    let mut way = match reach(worker, &destination, identity.clone(), manner).await {
        Ok(way) => way,
        Err(error) => {
            mirrors.into_iter().for_each(Mirror::give_up);
            return exchange.refuse(&error, Some(body));
        }
    };
    exchange.time(&mut way, told, forwarding.timeout());
    way.retries = forwarding.retries().cloned();
    way.repeatable = is_repeatable(&destination, &head.method, forwarding.path.path(), &head.headers);
    exchange.stick(&mut way, &head.headers, &forwarding.path, client);
    let original =
        Original { worker, head: &head, forwarding: &forwarding, identity: &identity, grpc: exchange.grpc };
    let copies = original.send_copies(mirrors);
    let target =
        Target { authority: forwarding.authority.clone(), path: forwarding.path.clone(), kept: false };
    address(&mut head, &target, way.wire, &way.security);
    exchange.dress.forwarding = Some(forwarding);
    let outgoing = exchange.outgoing(head, body, copies);
    match forward(permit, worker, way, outgoing, &mut exchange.record).await {
        Ok(answer) => exchange.answer(answer, || Ends { expires: connection.expires, token_expires }),
        Err(error) => exchange.refuse(&error, None),
    }
}

/// A record with all that the connection knows.
pub(crate) fn open_record(connection: &EdgeConnection) -> Box<Record> {
    let mut record = Record::open(&connection.worker, Direction::Edge, &connection.source);
    record.client = Some(connection.described());
    record
}

/// Every check, in the order that is the security argument, all by one snapshot.
async fn judge(
    connection: &Rc<EdgeConnection>,
    head: &mut request::Parts,
    exchange: &mut Exchange,
) -> Result<Verdict, ProxyError> {
    let worker = &connection.worker;
    let record = &mut exchange.record;
    let origin = origin(connection, &head.headers);
    if let Some(client) = &mut record.client {
        client.address = Some(origin.client);
    }
    // Before anything that is refused in so many words: answers that nobody reads are under way, too.
    record.client_request = connection.count(origin.client)?;
    worker.admit()?;
    if normalize::is_connect(head) {
        return Err(ProxyError::Connect);
    }
    if normalize::is_trace(head) {
        return Err(ProxyError::Trace);
    }
    let identity = standing::caller(worker, record)?;
    let snapshot = worker.shared.live.snapshot();
    let snapshot = standing::snapshot(&snapshot, record)?;
    let measure = guard::measure(snapshot, head);
    let may_keep = |host: &str, method: &str| snapshot.may_keep_ambiguous(host, method);
    let mut target =
        normalize::normalize_keeping(head, &snapshot.mesh, may_keep).map_err(ProxyError::Malformed)?;
    record.authority = Some(target.authority.clone());
    record.path = Some(target.path.clone());

    // What a caller says about where it came from was read once, and is gone now.
    strip(connection, &mut head.headers);

    // Before anything that costs: floods end here.
    let asked = Asked { address: origin.client, headers: &head.headers, token: None };
    let early = matched(&head.method, &target, None);
    limit::check(worker, snapshot, Moment::BeforeToken, early, &asked, record).await?;

    let server = server(connection, snapshot, &target)?;
    // In plaintext anybody could have written it (RFC 6797 section 7.2).
    exchange.dress.hsts = server.hsts.clone().filter(|_| origin.https);
    if server.https_redirect && !origin.https {
        return Ok(Verdict::Answer(to_https(&target), "https_redirect"));
    }
    let chosen = choose(connection, server, head, &target, &origin)?;
    record.route = Some(chosen.id.clone());

    let preflight = chosen.cors.as_ref().and_then(|cors| preflight(cors, &head.method, &head.headers));
    if preflight.is_none() {
        exchange.dress.leave = chosen.cors.as_ref().map(|cors| Leave::of(cors, &head.headers));
    }
    let (route, body, preflight_answered) = (Some(&*chosen.id), exchange.outline, preflight.is_some());
    let asked = guard::Asked { target: &target, route, measure, body, preflight: preflight_answered };
    let Guarded { body, readings } = guard::check(snapshot, head, &asked, record)?;
    exchange.body_guard = body;
    // Preflights carry no token and reach no upstream.
    if let Some(answer) = preflight {
        return Ok(Verdict::Answer(answer, "cors_preflight"));
    }

    let authentication = snapshot.authentication();
    let believed = authenticate(worker, authentication, head, &mut target.path, record).await?;
    snapshot.judged_headers().strip_respelled(&mut head.headers);
    let route_matched = matched(&head.method, &target, Some(&chosen.id));
    for path in every(&target, &readings) {
        demand(snapshot, &MatchView { path, ..route_matched }, believed.as_ref(), record)?;
    }
    let token = believed.as_ref().map(|believed| &*believed.token);

    let view = view(connection, &head.method, &head.headers, &target, &origin, token);
    if snapshot.has_observers() {
        record.observed(snapshot.observe(&view));
    }
    let routed = routed(connection, server, head, &target, &origin);
    let forwarding =
        route::forwarding(&chosen, &routed, &target.authority, &target.path, &snapshot.mesh, route::random)?;
    let permit = match &forwarding {
        Some(forwarding) => {
            describe(record, &forwarding.destination);
            record.decided(snapshot.authorize_edge(&view, &forwarding.destination))?
        }
        None => record.decided(snapshot.authorize_answer(&view))?,
    };
    for path in &readings {
        let _the_other_decides = record.decided(snapshot.authorize_answer(&RequestView { path, ..view }))?;
    }

    // Users' quotas are touched by verified users alone.
    let asked = Asked { address: origin.client, headers: &head.headers, token };
    let late = matched(&head.method, &target, Some(&chosen.id));
    limit::check(worker, snapshot, Moment::AfterToken, late, &asked, record).await?;

    let Some(forwarding) = forwarding else {
        let answer = route::own_answer(&chosen, scheme(&origin), &target.authority, &target.path);
        return Ok(Verdict::Answer(answer.ok_or(ProxyError::UncleanRewrite)?, route::details(&chosen)));
    };
    let mirrors = match exchange.upgrade {
        // What would follow is no request.
        Some(_) => Vec::new(),
        None => copies(worker, Direction::Edge, &connection.source, record, &forwarding, |destination| {
            snapshot.authorize_edge(&view, destination)
        }),
    };
    let held = Box::new(Held {
        connection: connection.clone(),
        method: head.method.clone(),
        target: target.clone(),
        believed,
        origin: origin.clone(),
        kept: Kept::of(&head.headers, snapshot),
    });
    with_outputs_kept(authentication, &mut head.headers, |headers| forwarding.change_request(headers));
    origin.write(&mut head.headers, target.authority.as_str());
    record.limits.mark(&mut head.headers);
    let id = identify::request_id(&mut head.headers, || record.decision_id());
    record.set_request_id(id);
    let going = Going { permit, forwarding, identity, held, mirrors };
    Ok(Verdict::Forward(Box::new(going)))
}

/// What is believed of where a request comes from.
fn origin(connection: &EdgeConnection, headers: &HeaderMap) -> Origin {
    Origin::read(connection.client, connection.source.tls.is_some(), headers, trusted_hops(connection))
}

fn trusted_hops(connection: &EdgeConnection) -> u8 {
    connection.worker.shared.settings.edge.as_ref().map_or(0, |edge| edge.trusted_hops)
}

/// Takes out of a request what only proxies may say.
fn strip(connection: &EdgeConnection, headers: &mut HeaderMap) {
    strip_claims(headers, trusted_hops(connection));
    if !connection.worker.shared.settings.follows_clients() {
        strip_trace(headers);
    }
    // A caller that chose its id could pass for another request in every log behind us.
    remove_where(headers, |name| is_folded(name, REQUEST_ID.as_str()));
}

/// The server of the request's host, by the rules of which the connection must have been made: a host that asks for
/// a certificate is not to be had through one that does not (RFC 9110 section 7.4).
fn server<'s>(
    connection: &EdgeConnection,
    snapshot: &'s Snapshot,
    target: &Target,
) -> Result<&'s Arc<Server>, ProxyError> {
    let port = snapshot.edge().port(connection.port).ok_or(ProxyError::NoRoute)?;
    let server = port.server_for_host(target.authority.as_str());
    match server {
        Some(server) if server.tls == connection.tls => Ok(server),
        Some(_) => Err(ProxyError::Misdirected),
        None => Err(ProxyError::NoRoute),
    }
}

fn choose(
    connection: &EdgeConnection,
    server: &Server,
    head: &request::Parts,
    target: &Target,
    origin: &Origin,
) -> Result<Arc<Route>, ProxyError> {
    route::find(server, &routed(connection, server, head, target, origin))
}

/// What routes are chosen by.
fn routed<'r>(
    connection: &EdgeConnection,
    server: &'r Server,
    head: &'r request::Parts,
    target: &'r Target,
    origin: &Origin,
) -> RouteView<'r> {
    let binding = Some((&*server.gateway_namespace, &*server.gateway));
    route::view(head, &target.authority, &target.path, scheme(origin), connection.port, binding)
}

fn scheme(origin: &Origin) -> &'static str {
    if origin.https { "https" } else { "http" }
}

/// 301, as Istio's gateways answer.
fn to_https(target: &Target) -> Response<Bytes> {
    let host: Cow<'_, str> = plain_host(target.authority.as_str());
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    if let Ok(value) = HeaderValue::try_from(format!("https://{host}{}", target.path)) {
        response.headers_mut().insert(LOCATION, value);
    }
    response
}

/// What limits and demands for tokens are chosen by.
fn matched<'r>(method: &'r Method, target: &'r Target, route: Option<&'r str>) -> MatchView<'r> {
    let (host, path) = (target.authority.as_str(), target.path.path());
    MatchView { host, method: method.as_str(), path, route }
}

/// The path, and what else a server may read it as.
fn every<'r>(target: &'r Target, readings: &'r [String]) -> impl Iterator<Item = &'r str> {
    std::iter::once(target.path.path()).chain(readings.iter().map(String::as_str))
}

/// All that policy may look at. Clients have no identity of the mesh, whatever certificate they bring.
fn view<'r>(
    connection: &'r EdgeConnection,
    method: &'r Method,
    headers: &'r HeaderMap,
    target: &'r Target,
    origin: &Origin,
    token: Option<&'r Token>,
) -> RequestView<'r> {
    RequestView {
        peer: None,
        source_ip: connection.source.address.ip().to_canonical(),
        remote_ip: origin.client,
        destination_ip: connection.local_ip,
        destination_port: connection.port,
        method: method.as_str(),
        path: target.path.path(),
        host: target.authority.as_str(),
        headers,
        sni: connection.sni.as_deref(),
        token,
    }
}

impl Held {
    /// Whether a new snapshot still has a way for the request, to any of the route's destinations.
    pub(super) fn is_allowed(&self, snapshot: &Snapshot) -> bool {
        let Self { connection, method, target, believed, origin, kept } = self;
        if !kept.suffice_for(snapshot) {
            return false;
        }
        let mut head = Request::new(()).into_parts().0;
        head.method = method.clone();
        head.headers = kept.headers.clone();
        let Ok(server) = server(connection, snapshot, target) else { return false };
        let Ok(route) = choose(connection, server, &head, target, origin) else { return false };
        let Action::Forward(forward) = &route.action else { return false };
        let token = believed.as_ref().map(|believed| &*believed.token);
        let matched = matched(method, target, Some(&route.id));
        let Ok(others) = guard::readings(snapshot, &matched, target) else { return false };
        let view = view(connection, method, &kept.headers, target, origin, token);
        let reading_allowed = |path| {
            snapshot.authentication().demand(&MatchView { path, ..matched }, token).is_ok()
                && matches!(snapshot.authorize_answer(&RequestView { path, ..view }), Decision::Allow { .. })
        };
        let destinations = forward.targets().iter().filter_map(|target| target.destination.as_ref());
        let reachable = |destination: &Arc<palisade_policy::compile::Destination>| {
            matches!(snapshot.authorize_edge(&view, destination), Decision::Allow { .. })
        };
        every(target, &others).all(reading_allowed) && destinations.into_iter().any(reachable)
    }
}
