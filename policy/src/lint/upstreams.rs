//! Services behind an edge that others reach past it.

use std::collections::BTreeSet;

use super::Desk;
use super::posture::{Mtls, Upstream, upstreams_of};
use super::world::World;
use crate::finding::code;

pub(super) fn check(world: &World<'_>, desk: &mut Desk) {
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
        code::UPSTREAM_PLAINTEXT => "apply a PeerAuthentication with mtls: {mode: STRICT} for it",
        _ => "write an AuthorizationPolicy for it that names the edge in principals, and default-deny",
    }
}
