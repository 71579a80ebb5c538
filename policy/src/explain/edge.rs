//! What an edge asks of a request from outside, in the order in which it asks (`pipeline/edge.rs` of the proxy).

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Target;
use super::judge::{End, Judged, Passed, Stage, authorized, listed, note_limits};
use super::question::Question;
use super::received::Received;
use crate::compile::edge::{Port, Server};
use crate::compile::routes::{Action, Route, RouteView};
use crate::compile::{Destination, Snapshot};
use crate::decision::RuleRef;
use crate::kind::gateway::host::plain_host;
use crate::kind::gateway::{GatewayTlsMode, HostPattern};
use crate::kind::{Kind, MeshConfigSpec};
use crate::request::origin::strip_claims;

const NO_ROUTE: &str = "no_route";

/// Takes a request of a client through everything but limits.
pub(super) fn judge(target: &Target, question: &Question, judged: &mut Judged) -> Result<Passed, End> {
    let snapshot = &target.snapshot;
    let mut request = Received::new(target, question, judged)?;
    // Nothing is known of trusted hops but the client's address, if the question says it.
    strip_claims(&mut request.headers, 0);
    let port = port(snapshot, question.port)?;
    let sni = port.tls.then(|| question.sni.clone().unwrap_or_else(|| plain_host(&request.host).into()));
    let server = server(port, question.port, sni.as_deref(), &request.host)?;
    if server.https_redirect && !port.tls {
        let why = "the Gateway sends whatever comes in plaintext to https, and asks nobody";
        return Ok(Passed::Answered { stage: Stage::Route, reason: "https_redirect", why });
    }
    note_certificate(server, judged);
    let scheme = if port.tls { "https" } else { "http" };
    let route = route(server, &routed(&request, question, server, scheme), judged)?;
    let preflight =
        route.cors.as_ref().is_some_and(|cors| cors.answers_preflight(&question.method, &request.headers));
    note_limits(snapshot, &request.matched(Some(&route.id)), judged);
    let readings = request.guarded(snapshot, Some(&route.id), preflight)?;
    if preflight {
        let why = "the route's corsPolicy answers the preflight: it carries no token and reaches no service";
        return Ok(Passed::Answered { stage: Stage::Cors, reason: "cors_preflight", why });
    }
    let token = request.believed(target, judged)?;
    snapshot.judged_headers().strip_respelled(&mut request.headers);
    request.demanded(snapshot, Some(&route.id), &readings, token.as_ref())?;
    let view = request.view(None, sni.as_deref(), token.as_ref());
    let destination = way(&route, &routed(&request, question, server, scheme), &snapshot.mesh, judged)?;
    authorized(target, &view, &readings, judged, |view| match destination {
        Some(destination) => snapshot.authorize_edge(view, destination),
        None => snapshot.authorize_answer(view),
    })
    .map(Passed::Granted)
}

/// What routes are chosen by.
fn routed<'r>(
    request: &'r Received<'_>,
    question: &'r Question,
    server: &'r Server,
    scheme: &'r str,
) -> RouteView<'r> {
    RouteView {
        path: &request.path,
        query: request.query,
        method: &question.method,
        headers: &request.headers,
        authority: &request.host,
        scheme,
        port: question.port,
        binding: Some((&server.gateway_namespace, &server.gateway)),
    }
}

fn port(snapshot: &Snapshot, number: u16) -> Result<&Port, End> {
    snapshot.edge().port(number).ok_or_else(|| {
        let ports = listed(snapshot.edge().ports().map(|(number, _)| number.to_string()));
        let why = format!("no Gateway of this edge serves port {number}; theirs: {ports}");
        End::new(Stage::Route, NO_ROUTE, why)
    })
}

/// The server of the host, if the connection was made by its rules: what the client has asked for in the handshake says
/// by whose it was.
fn server<'s>(port: &'s Port, number: u16, sni: Option<&str>, host: &str) -> Result<&'s Arc<Server>, End> {
    let object =
        |end: End, server: &Server| end.at(Kind::Gateway, &server.gateway_namespace, &server.gateway);
    let made = match port.tls {
        false => None,
        true => match port.server_for_sni(sni).and_then(|server| server.tls.as_ref()) {
            Some(tls) => Some(tls),
            None => {
                let why =
                    format!("no Gateway has the name that the handshake asks for; {}", hosts(port, number));
                return Err(only_gateway(port, End::new(Stage::Route, "unknownName", why)));
            }
        },
    };
    match port.server_for_host(host) {
        Some(server) if server.tls.as_ref() == made => Ok(server),
        Some(server) => {
            let why = format!("the handshake asks for another name than {host:?}, which has other TLS rules");
            Err(object(End::new(Stage::Route, "misdirected_request", why), server))
        }
        None => {
            let why = format!("no Gateway has the host {host:?}; {}", hosts(port, number));
            Err(only_gateway(port, End::new(Stage::Route, NO_ROUTE, why)))
        }
    }
}

/// Names the Gateway of a port, if there is one only.
fn only_gateway(port: &Port, end: End) -> End {
    let names = port.servers().map(|server| (&server.gateway_namespace, &server.gateway));
    let names: BTreeSet<_> = names.collect();
    match (names.first(), names.len()) {
        (Some((namespace, name)), 1) => end.at(Kind::Gateway, namespace, name),
        _ => end,
    }
}

fn hosts(port: &Port, number: u16) -> String {
    let patterns: BTreeSet<&HostPattern> =
        port.servers().flat_map(|server| server.hosts.iter().map(|host| &host.pattern)).collect();
    format!("port {number} serves {}", listed(patterns.iter().map(ToString::to_string)))
}

fn note_certificate(server: &Server, judged: &mut Judged) {
    let mode = server.tls.as_ref().map(|tls| tls.mode);
    if mode.is_some_and(|mode| mode != GatewayTlsMode::Simple) {
        judged
            .notes
            .push("clients show a certificate here; whether it is a good one is not looked at".to_owned());
    }
}

/// The first route that fits.
fn route(server: &Server, view: &RouteView<'_>, judged: &mut Judged) -> Result<Arc<Route>, End> {
    let Some(table) = server.routes_for(view.authority) else {
        let why = format!("no VirtualService with the host {:?} is bound to the Gateway", view.authority);
        let end = End::new(Stage::Route, NO_ROUTE, why);
        return Err(end.at(Kind::Gateway, &server.gateway_namespace, &server.gateway));
    };
    let (namespace, name) = (&table.namespace, &table.name);
    let Some((index, route)) = table.position(view) else {
        let why = match table.routes().count() {
            1 => "the one route of the VirtualService does not fit".to_owned(),
            count => format!("none of the {count} routes of the VirtualService fits"),
        };
        return Err(End::new(Stage::Route, NO_ROUTE, why).at(Kind::VirtualService, namespace, name));
    };
    let place = RuleRef { namespace: namespace.clone(), policy: name.clone(), rule: index };
    judged.route = Some((route.id.clone(), place));
    Ok(route.clone())
}

/// Where the request goes; of several destinations the first that the edge is told of. `None`: the edge answers itself.
fn way<'r>(
    route: &'r Route,
    view: &RouteView<'_>,
    mesh: &MeshConfigSpec,
    judged: &mut Judged,
) -> Result<Option<&'r Destination>, End> {
    let Action::Forward(forward) = &route.action else {
        judged.notes.push("the edge answers itself; no service is asked".to_owned());
        return Ok(None);
    };
    let mut known = forward.drawn().filter_map(|target| target.destination.as_deref());
    let unknown = forward.drawn().filter(|target| target.destination.is_none());
    let unknown = listed(unknown.map(|target| target.host.to_string()));
    let Some(first) = known.next() else {
        let why = format!(
            "the edge is told of no {unknown}: there is no such service or port, or its policies let no request of the edge in"
        );
        return Err(End::new(Stage::Destination, "route_target_unknown", why));
    };
    if !unknown.is_empty() {
        let note =
            format!("the edge is not told of {unknown}: the share of requests that goes there is refused");
        judged.notes.push(note);
    }
    route.rewritten_path(view, mesh).map_err(|_unclean| {
        let why = "the path that the route makes of it is not in normal form";
        End::new(Stage::Route, "rewrite_unclean", why)
    })?;
    Ok(Some(first))
}
