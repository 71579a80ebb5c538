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
use crate::kind::authorization_policy::Action;
use crate::kind::jwt_policy::Access;
use crate::kind::rate_limit_policy::{KeyPart, LimitSpec, Mode};
use crate::set::ROOT_NAMESPACE;
use crate::set::names::{mesh_name, resolve};

/// Words in segments of paths where passwords and codes are taken: `login`, `customer-login`, `resetPassword`.
const WORDS: [&str; 13] = [
    "login",
    "logon",
    "signin",
    "password",
    "passwords",
    "passwd",
    "passcode",
    "otp",
    "totp",
    "mfa",
    "2fa",
    "pin",
    "authenticate",
];
/// The same in two words.
const PAIRS: [(&str, &str); 5] =
    [("log", "in"), ("log", "on"), ("sign", "in"), ("verify", "code"), ("magic", "link")];
/// Whole segments, of words that mean other things beside others.
const SEGMENTS: [&str; 8] =
    ["token", "tokens", "oauth", "oauth2", "auth", "challenge", "session", "sessions"];

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

/// What a DENY of requests without a token excepts.
fn excepted<'o>(world: &World<'o>, route: &EdgeRoute<'_>) -> Vec<&'o String> {
    let denies = world.deciding.iter().filter(|policy| policy.spec.action == Action::Deny);
    let rules = denies.filter(|p| Reach::of(*p).meets(&route.edges)).flat_map(|policy| &policy.spec.rules);
    let of_token = rules.filter(|rule| rule.asks_for_token());
    of_token.flat_map(|rule| &rule.to).flat_map(|operation| &operation.not_paths).collect()
}

/// What needs no token within a wider route, as JwtPolicies mark it or a DENY excepts it: the login of a service behind a
/// route for everything.
fn public_parts<'r>(world: &World<'_>, route: &EdgeRoute<'_>, requests: &Requests<'r>) -> Vec<Requests<'r>> {
    let policies = world.access.iter().filter(|policy| Reach::of(*policy).meets(&route.edges));
    let rules = policies.flat_map(|policy| &policy.spec.rules).filter(|rule| rule.access == Access::Public);
    let mut out = Vec::new();
    for path in excepted(world, route).into_iter().map(|path| Pattern::path(path)) {
        if requests.path.covers(&path) {
            out.push(Requests { path, ..requests.clone() });
        }
    }
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
fn takes_credentials(requests: &Requests<'_>) -> Option<String> {
    let writes = ["POST", "PUT", "PATCH"];
    if !writes.iter().any(|method| Pattern::exact(method).overlaps(&requests.method)) {
        return None;
    }
    let path = requests.path.shown();
    let mut segments = path.split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_')));
    // The last one says the most: `/auth/login`.
    segments.rfind(|segment| is_of_credentials(segment)).map(str::to_owned)
}

fn is_of_credentials(segment: &str) -> bool {
    let words = words(segment);
    let mut pairs = words.iter().zip(words.iter().skip(1));
    SEGMENTS.contains(&segment.to_ascii_lowercase().as_str())
        || words.iter().any(|word| WORDS.contains(&word.as_str()))
        || pairs.any(|(a, b)| PAIRS.contains(&(a.as_str(), b.as_str())))
}

/// `resetPassword`, `reset-password` and `reset_password` are two words.
fn words(segment: &str) -> Vec<String> {
    let mut out = vec![String::new()];
    let mut was_capital = true;
    for c in segment.chars() {
        let begins = c.is_ascii_uppercase() && !was_capital;
        was_capital = c.is_ascii_uppercase();
        if begins || !c.is_ascii_alphanumeric() {
            out.push(String::new());
        }
        if let Some(word) = out.last_mut().filter(|_| c.is_ascii_alphanumeric()) {
            word.push(c.to_ascii_lowercase());
        }
    }
    out.retain(|word| !word.is_empty());
    out
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
        let counting = |limit: &LimitSpec| limit.mode == Mode::Enforce && counts_strangers(limit);
        let enforced = policy.spec.limits.iter().any(counting);
        own && enforced && Reach::of(policy).includes(&service)
    })
}
