//! What counts the requests of a route.

use serde::Serialize;

use super::super::edge::EdgeRoute;
use super::super::requests::{Requests, Scope};
use super::super::selection::Reach;
use super::super::world::World;
use crate::kind::rate_limit_policy::{KeyPart, LimitSpec, Mode};

/// A limit of the edge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Limit {
    /// `namespace/policy/limit`.
    pub limit: String,
    pub requests: u64,
    pub window_seconds: u64,
    /// `address`, `principal`, `claim sub`, `header x-api-key`; empty: all requests together.
    pub key: Vec<String>,
    /// It is for some of these requests, or at some of the edges, only.
    pub partly: bool,
    /// Whether it refuses anything.
    pub enforced: bool,
}

pub(super) fn look_at(world: &World<'_>, route: &EdgeRoute<'_>, pieces: &[Requests<'_>]) -> Vec<Limit> {
    let mut out = Vec::new();
    for policy in world.limits.iter().filter(|policy| Reach::of(*policy).meets(&route.edges)) {
        let everywhere = Reach::of(policy).includes(&route.edges);
        for limit in &policy.spec.limits {
            let scopes = Scope::of_match(&limit.matches);
            if !pieces.iter().any(|piece| scopes.iter().any(|scope| scope.overlaps(piece))) {
                continue;
            }
            let all = pieces.iter().all(|piece| scopes.iter().any(|scope| scope.covers(piece)));
            let meta = &policy.object.meta;
            let name = format!("{}/{}/{}", meta.namespace, meta.name, limit.name);
            out.push(shown(name, limit, !(all && everywhere)));
        }
    }
    out
}

fn shown(limit: String, spec: &LimitSpec, partly: bool) -> Limit {
    let part = |part: &KeyPart| match part {
        KeyPart::Claim(name) => format!("claim {name}"),
        KeyPart::Principal => "principal".to_owned(),
        KeyPart::Address => "address".to_owned(),
        KeyPart::Header(name) => format!("header {name}"),
    };
    Limit {
        limit,
        requests: spec.limit,
        window_seconds: spec.window.as_secs(),
        key: spec.key.iter().map(part).collect(),
        partly,
        enforced: spec.mode == Mode::Enforce,
    }
}
