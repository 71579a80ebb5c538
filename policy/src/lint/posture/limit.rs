//! What counts the requests of a route.

use serde::Serialize;

use super::super::edge::EdgeRoute;
use super::super::requests::{Requests, Scope};
use super::super::selection::Reach;
use super::super::world::{Of, World};
use crate::kind::RateLimitPolicySpec;
use crate::kind::rate_limit_policy::{self, KeyPart, LimitSpec, Mode};

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
    /// Whether all proxies of the mesh count together, and not each for itself.
    pub mesh: bool,
    /// Whether it refuses anything.
    pub enforced: bool,
}

/// A limit with what it is about, which is asked by every route.
pub(super) struct Counting<'o> {
    policy: Of<'o, RateLimitPolicySpec>,
    limit: &'o LimitSpec,
    scopes: Vec<Scope>,
}

pub(super) fn all<'o>(world: &World<'o>) -> Vec<Counting<'o>> {
    let of = |policy: &Of<'o, RateLimitPolicySpec>| {
        let policy = *policy;
        policy.spec.limits.iter().map(move |limit| {
            let scopes = Scope::of_match(&limit.matches);
            Counting { policy, limit, scopes }
        })
    };
    world.limits.iter().flat_map(of).collect()
}

pub(super) fn look_at(all: &[Counting<'_>], route: &EdgeRoute<'_>, pieces: &[Requests<'_>]) -> Vec<Limit> {
    let mut out = Vec::new();
    for Counting { policy, limit, scopes } in all {
        let about = |piece: &Requests<'_>| scopes.iter().any(|scope| scope.overlaps(piece));
        if !Reach::of(policy).meets(&route.edges) || !pieces.iter().any(about) {
            continue;
        }
        let whole = pieces.iter().all(|piece| scopes.iter().any(|scope| scope.covers(piece)));
        let everywhere = Reach::of(policy).includes(&route.edges);
        let meta = &policy.object.meta;
        let name = format!("{}/{}/{}", meta.namespace, meta.name, limit.name);
        out.push(shown(name, limit, !(whole && everywhere)));
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
        mesh: spec.scope != rate_limit_policy::Scope::Instance,
        enforced: spec.mode == Mode::Enforce,
    }
}
