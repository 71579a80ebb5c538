//! Services behind an edge that others reach past it.

use std::collections::BTreeSet;

use super::Desk;
use super::edge::EdgeRoute;
use super::posture::{Mtls, Upstream, upstreams_of};
use super::world::World;
use crate::finding::code;
use crate::kind::gateway::{GatewayProtocol, GatewayServer};

pub(super) fn check(world: &World<'_>, desk: &mut Desk) {
    in_plaintext(world, desk);
    let mut reported = BTreeSet::new();
    for route in world.edge_routes() {
        for upstream in upstreams_of(world, &route) {
            for (code, _, message) in holes(&upstream) {
                if reported.insert((route.service.index, route.number, code, upstream.host.clone())) {
                    let problems = desk.about(route.service.index);
                    problems.warning(code, route.path(), message);
                    problems.help(help(code));
                }
            }
        }
    }
}

fn in_plaintext(world: &World<'_>, desk: &mut Desk) {
    let mut reported = BTreeSet::new();
    for route in world.edge_routes() {
        let Some((server, message)) = plaintext(&route) else { continue };
        let at = route.gateway.spec.servers.iter().position(|s| s.port.number == server).unwrap_or_default();
        if reported.insert((route.gateway.index, at)) {
            let problems = desk.about(route.gateway.index);
            problems.warning(code::PLAINTEXT_BESIDE_TLS, format!("spec.servers[{at}]"), message);
            problems.help(help(code::PLAINTEXT_BESIDE_TLS));
        }
    }
}

/// The port that serves a route in plaintext where another one serves it in TLS. An edge without any TLS may stand behind
/// a load balancer that has it.
pub(super) fn plaintext(route: &EdgeRoute<'_>) -> Option<(u16, String)> {
    let is_tls = |server: &&GatewayServer| server.port.protocol == GatewayProtocol::Https;
    let plain = route.servers().find(|server| !is_tls(server)).filter(|_| route.forwards())?;
    let tls = route.servers().find(is_tls)?;
    let (plain, tls) = (plain.port.number, tls.port.number);
    Some((
        plain,
        format!("port {plain} serves in plaintext what port {tls} serves in TLS, tokens and passwords too"),
    ))
}

/// Code, a word for it, and what is said.
pub(super) fn holes(upstream: &Upstream) -> Vec<(&'static str, &'static str, String)> {
    let host = &upstream.host;
    let mut out = Vec::new();
    if upstream.mtls == Some(Mtls::Permissive) {
        let message = format!("{host} takes calls in plaintext, so who reaches its port needs no edge");
        out.push((code::UPSTREAM_PLAINTEXT, "plaintext behind", message));
    }
    if upstream.anyone {
        let message = format!("every caller may do at {host} what this route does, without the edge");
        out.push((code::UPSTREAM_OPEN, "anyone behind", message));
    }
    out
}

pub(super) fn help(code: &str) -> &'static str {
    match code {
        code::PLAINTEXT_BESIDE_TLS => "write tls: {httpsRedirect: true} for the server without TLS",
        code::UPSTREAM_PLAINTEXT => "apply a PeerAuthentication with mtls: {mode: STRICT} for it",
        _ => "write an AuthorizationPolicy for it that names the edge in principals, and default-deny",
    }
}
