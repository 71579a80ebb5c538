//! Routes that take bodies, and what bounds them.

use std::collections::BTreeSet;

use super::Desk;
use super::edge::EdgeRoute;
use super::pattern::Pattern;
use super::requests::{Requests, Scope};
use super::selection::Reach;
use super::world::World;
use crate::finding::code;
use crate::kind::request_guard::GuardRuleSpec;

/// Methods whose requests have bodies as a rule.
const WRITES: [&str; 3] = ["POST", "PUT", "PATCH"];

pub(super) const HELP: &str = "write a RequestGuard for the edge with maxBodyBytes for these requests";

/// A rule of a guard that is about requests of a route.
#[derive(Clone, Debug)]
pub(super) struct Guarding<'g> {
    /// `namespace/guard/rule`.
    pub(super) name: String,
    pub(super) spec: &'g GuardRuleSpec,
    /// It is for some of these requests, or at some of the edges, only.
    pub(super) partly: bool,
}

pub(super) fn check(world: &World<'_>, desk: &mut Desk) {
    let mut reported = BTreeSet::new();
    for route in world.edge_routes().iter().filter(|route| route.forwards()) {
        let Some(message) = hole(world, route, &route.requests()) else { continue };
        if reported.insert((route.service.index, route.number)) {
            let problems = desk.about(route.service.index);
            problems.note(code::UNBOUNDED_BODY, route.path(), message);
            problems.help(HELP);
        }
    }
}

/// A write whose body nothing bounds, among parts of what a route takes.
pub(super) fn hole(world: &World<'_>, route: &EdgeRoute<'_>, pieces: &[Requests<'_>]) -> Option<String> {
    let bounded = |write: &Requests<'_>| {
        guarding(world, route, std::slice::from_ref(write))
            .iter()
            .any(|rule| !rule.partly && rule.spec.max_body_bytes.is_some())
    };
    let mut writes = pieces.iter().flat_map(|piece| {
        let narrowed = |method| Requests { method: Pattern::exact(method), ..piece.clone() };
        WRITES
            .into_iter()
            .filter(|m| piece.method.overlaps(&Pattern::exact(m)))
            .map(move |m| (m, narrowed(m)))
    });
    let (method, write) = writes.find(|(_, write)| !bounded(write))?;
    Some(format!("{method} {} may have a body of any size", write.path.shown()))
}

/// The rules of guards at the edge that may be about some of these requests.
pub(super) fn guarding<'g>(
    world: &World<'g>,
    route: &EdgeRoute<'_>,
    pieces: &[Requests<'_>],
) -> Vec<Guarding<'g>> {
    let mut out = Vec::new();
    for guard in world.guards.iter().filter(|guard| Reach::of(*guard).meets(&route.edges)) {
        let everywhere = Reach::of(guard).includes(&route.edges);
        for spec in &guard.spec.rules {
            let scopes = Scope::of_match(&spec.matches);
            if !pieces.iter().any(|piece| scopes.iter().any(|scope| scope.overlaps(piece))) {
                continue;
            }
            let all = pieces.iter().all(|piece| scopes.iter().any(|scope| scope.covers(piece)));
            let meta = &guard.object.meta;
            let name = format!("{}/{}/{}", meta.namespace, meta.name, spec.name);
            out.push(Guarding { name, spec, partly: !(all && everywhere) });
        }
    }
    out
}
