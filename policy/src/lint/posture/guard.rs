//! What the requests of a route must look like.

use serde::Serialize;

use super::super::edge::EdgeRoute;
use super::super::guards::{Guarding, guarding};
use super::super::requests::Requests;
use super::super::world::World;

/// A rule of a RequestGuard of the edge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Guard {
    /// `namespace/guard/rule`.
    pub rule: String,
    /// Empty: all.
    pub methods: Vec<String>,
    /// Empty: any.
    pub content_types: Vec<String>,
    pub body_bytes_max: Option<u64>,
    /// What else it asks for: `headers`, `URI`, `ambiguous paths kept`.
    pub others: Vec<&'static str>,
    /// It is for some of these requests, or at some of the edges, only.
    pub partly: bool,
}

pub(super) fn look_at(world: &World<'_>, route: &EdgeRoute<'_>, pieces: &[Requests<'_>]) -> Vec<Guard> {
    guarding(world, route, pieces).into_iter().map(shown).collect()
}

fn shown(guarding: Guarding<'_>) -> Guard {
    let spec = guarding.spec;
    Guard {
        rule: guarding.name,
        methods: spec.allowed_methods.clone(),
        content_types: spec.content_types.clone(),
        body_bytes_max: spec.max_body_bytes,
        others: spec.other_words().collect(),
        partly: guarding.partly,
    }
}
