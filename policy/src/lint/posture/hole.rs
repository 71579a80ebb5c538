//! Holes of a row. Each has the code of the finding that lint gives for it.

use serde::Serialize;

use super::super::edge::EdgeRoute;
use super::super::requests::Requests;
use super::super::world::World;
use super::super::{cors, ignore, limits, protection, scopes, upstreams};
use super::{Authentication, Upstream};
use crate::finding::problem::Problems;
use crate::finding::{Findings, code};

/// A way in that nobody has said is meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hole {
    pub code: &'static str,
    /// In two or three words, for a table: `no token`.
    pub word: &'static str,
    pub message: String,
    pub help: String,
    /// The reason that the annotation of the VirtualService or the Gateway gives for leaving it.
    pub accepted: Option<String>,
}

pub(super) fn find(
    world: &World<'_>,
    route: &EdgeRoute<'_>,
    pieces: &[Requests<'_>],
    authentication: Authentication,
    upstreams: &[Upstream],
) -> Vec<Hole> {
    let mut holes = Vec::new();
    let mut add = |code: &'static str, word, message: String, help: &str| {
        let about = match code {
            code::PLAINTEXT_BESIDE_TLS => route.gateway.object,
            _ => route.service.object,
        };
        let accepted = ignore::reason(about, code);
        holes.push(Hole { code, word, message, help: help.to_owned(), accepted });
    };
    if authentication == Authentication::Refused {
        return holes;
    }
    if route.forwards() {
        if let Some(message) = protection::hole(world, route, pieces) {
            add(code::OPEN_ROUTE, "no token", message, protection::HELP);
        }
        if let Some(message) = scopes::hole(world, route, pieces) {
            add(code::WRITE_BY_READ_SCOPE, "read scope writes", message, scopes::HELP);
        }
        if let Some(message) = limits::hole(world, route, pieces) {
            add(code::LOGIN_WITHOUT_LIMIT, "login unlimited", message, limits::HELP);
        }
    }
    if let Some((_, message)) = upstreams::plaintext(route) {
        add(
            code::PLAINTEXT_BESIDE_TLS,
            "plaintext too",
            message,
            upstreams::help(code::PLAINTEXT_BESIDE_TLS),
        );
    }
    if let Some((message, help)) = wide_cors(route) {
        add(code::CORS_WIDE, "CORS wide", message, &help);
    }
    for upstream in upstreams {
        for (code, word, message) in upstreams::holes(upstream) {
            add(code, word, message, upstreams::help(code));
        }
    }
    holes
}

fn wide_cors(route: &EdgeRoute<'_>) -> Option<(String, String)> {
    let policy = route.route.cors.as_ref()?;
    let mut problems = Problems::default();
    for origin in &policy.allow_origins {
        cors::look_at(policy, origin, "", &mut problems);
    }
    let mut findings = Findings::default();
    problems.place(None, |_| None, &mut findings);
    let first = findings.0.into_iter().next()?;
    Some((first.message, first.help.unwrap_or_default()))
}
