//! Routes that take credentials, and how often they may be tried.

use std::collections::BTreeSet;

use super::Desk;
use super::edge::EdgeRoute;
use super::pattern::Pattern;
use super::protection::is_refused;
use super::requests::{Requests, Scope};
use super::selection::Reach;
use super::world::World;
use crate::finding::code;
use crate::kind::Selector;
use crate::kind::jwt_policy::Access;
use crate::kind::rate_limit_policy::{KeyPart, LimitSpec, Mode};
use crate::set::ROOT_NAMESPACE;
use crate::set::names::{mesh_name, resolve};

/// Segments of paths where passwords, codes and tokens are given out or taken.
const SEGMENTS: [&str; 25] = [
    "login",
    "log-in",
    "logon",
    "signin",
    "sign-in",
    "sign_in",
    "token",
    "oauth",
    "oauth2",
    "auth",
    "authenticate",
    "password",
    "password-reset",
    "reset-password",
    "forgot-password",
    "passwd",
    "otp",
    "totp",
    "mfa",
    "2fa",
    "verify-code",
    "magic-link",
    "challenge",
    "pin",
    "passcode",
];

pub(super) fn check(world: &World<'_>, desk: &mut Desk) {
    let mut reported = BTreeSet::new();
    for route in world.edge_routes().iter().filter(|route| route.forwards()) {
        let Some(message) = hole(world, route, &route.requests()) else { continue };
        if reported.insert((route.service.index, route.number)) {
            let problems = desk.about(route.service.index);
            problems.warning(code::LOGIN_WITHOUT_LIMIT, route.path(), message);
            problems.help(HELP);
        }
    }
}

pub(super) const HELP: &str = "write a RateLimitPolicy for the edge with key: [{address: {}}]";

/// Credentials that may be tried without end, among parts of what a route takes.
pub(super) fn hole(world: &World<'_>, route: &EdgeRoute<'_>, requests: &[Requests<'_>]) -> Option<String> {
    let public: Vec<Requests<'_>> = requests.iter().flat_map(|r| public_parts(world, route, r)).collect();
    let mut all = requests.iter().chain(&public);
    all.find_map(|requests| {
        let segment = takes_credentials(requests)?;
        let open = !is_limited(world, route, requests) && !is_refused(world, route, requests);
        open.then(|| format!("{} (/{segment}) may be tried without end", requests.path.shown()))
    })
}

/// What JwtPolicies mark as public within a wider route: the login of a service behind a route for everything.
fn public_parts<'r>(world: &World<'_>, route: &EdgeRoute<'_>, requests: &Requests<'r>) -> Vec<Requests<'r>> {
    let policies = world.access.iter().filter(|policy| Reach::of(*policy).meets(&route.edges));
    let rules = policies.flat_map(|policy| &policy.spec.rules).filter(|rule| rule.access == Access::Public);
    let mut out = Vec::new();
    for item in rules.flat_map(|rule| &rule.matches) {
        let scopes = Scope::of_match(std::slice::from_ref(item));
        if !scopes.iter().any(|scope| scope.overlaps(requests)) {
            continue;
        }
        let methods: Vec<Pattern> = match (requests.method.is_any(), item.methods.is_empty()) {
            (true, false) => item.methods.iter().map(|method| Pattern::text(method)).collect(),
            _ => vec![requests.method.clone()],
        };
        for path in item.paths.iter().map(|path| Pattern::path(path)).filter(|p| requests.path.covers(p)) {
            for method in &methods {
                let (method, path) = (method.clone(), path.clone());
                out.push(Requests { method, path, ..requests.clone() });
            }
        }
    }
    out
}

/// The segment by which a path is known. Looking alone gives nobody's password away.
fn takes_credentials<'s>(requests: &Requests<'_>) -> Option<&'s str> {
    if !Pattern::exact("POST").overlaps(&requests.method) && !Pattern::exact("PUT").overlaps(&requests.method)
    {
        return None;
    }
    let path = requests.path.shown().to_ascii_lowercase();
    let segments = || path.split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_')));
    SEGMENTS.into_iter().find(|known| segments().any(|segment| segment == *known))
}

/// Whether something counts them, at the edge or where they go.
fn is_limited(world: &World<'_>, route: &EdgeRoute<'_>, requests: &Requests<'_>) -> bool {
    let post = Requests { method: Pattern::exact("POST"), ..requests.clone() };
    let requests = if requests.method.is_any() { &post } else { requests };
    let at_the_edge = world.limits.iter().filter(|policy| Reach::of(policy).includes(&route.edges));
    let mut limits = at_the_edge.flat_map(|policy| &policy.spec.limits);
    let counts = limits.any(|limit| {
        let all = Scope::of_match(&limit.matches).iter().any(|scope| scope.covers(requests));
        limit.mode == Mode::Enforce && counts_strangers(limit) && all
    });
    counts
        || route.route.route.iter().all(|target| is_limited_service(world, route, &target.destination.host))
}

/// Who guesses a password has no token yet, and writes a header anew for each guess.
fn counts_strangers(limit: &LimitSpec) -> bool {
    limit.key.iter().all(|part| *part == KeyPart::Address)
}

/// Whether a policy limits a service itself. Its paths are those behind the rewrite, so they are not compared.
fn is_limited_service(world: &World<'_>, route: &EdgeRoute<'_>, host: &str) -> bool {
    let Some(host) = resolve(host, route.service.namespace()).last() else { return false };
    let Some((name, namespace)) = mesh_name(&host) else { return false };
    let labels = Selector::from([("app".to_owned(), name.to_owned())]);
    let service = Reach { namespace, selector: &labels };
    world.limits.iter().any(|policy| {
        let own = policy.namespace() != ROOT_NAMESPACE || !policy.spec.selector.is_empty();
        let enforced = policy.spec.limits.iter().any(|limit| limit.mode == Mode::Enforce);
        own && enforced && Reach::of(policy).includes(&service)
    })
}
