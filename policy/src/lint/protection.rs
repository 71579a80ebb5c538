//! Whether a request without a token gets through an edge.

use std::collections::BTreeSet;

use super::Desk;
use super::edge::EdgeRoute;
use super::requests::{Requests, Scope};
use super::selection::Reach;
use super::world::World;
use crate::finding::code;
use crate::kind::authorization_policy::{Action, Rule, Source};
use crate::kind::jwt_policy::Access;

pub(super) fn check(world: &World<'_>, desk: &mut Desk) {
    open_routes(world, desk);
    tokens_not_needed(world, desk);
}

fn open_routes(world: &World<'_>, desk: &mut Desk) {
    let mut reported = BTreeSet::new();
    for route in world.edge_routes().iter().filter(|route| route.forwards()) {
        let Some(message) = hole(world, route, &route.requests()) else { continue };
        if !reported.insert((route.service.index, route.number)) {
            continue;
        }
        let problems = desk.about(route.service.index);
        problems.error(code::OPEN_ROUTE, route.path(), message);
        problems.help(HELP);
    }
}

pub(super) const HELP: &str =
    "write a rule with access: token, or access: public, into a JwtPolicy that selects the edge";

/// What gets in without a token, among parts of what a route takes.
pub(super) fn hole(world: &World<'_>, route: &EdgeRoute<'_>, requests: &[Requests<'_>]) -> Option<String> {
    let open = requests.iter().find(|r| is_open(world, route, r))?;
    let (method, path, host) = (open.method.shown(), open.path.shown(), open.host.shown());
    Some(format!("{method} {path} of {host} needs no token, and nothing marks it as public"))
}

/// Whether somebody without a token and without an identity may be let in. No unless that is certain.
fn is_open(world: &World<'_>, route: &EdgeRoute<'_>, requests: &Requests<'_>) -> bool {
    !is_closed(world, route, requests) && !is_spoken_of(world, route, requests)
}

/// Whether a JwtPolicy says of all these requests that they need a token, or that they need none: the rule that covers
/// them, or one before it.
fn is_spoken_of(world: &World<'_>, route: &EdgeRoute<'_>, requests: &Requests<'_>) -> bool {
    let policies = world.access.iter().filter(|policy| Reach::of(*policy).includes(&route.edges));
    let mut rules = policies.flat_map(|policy| &policy.spec.rules);
    rules.any(|rule| Scope::of_match(&rule.matches).iter().any(|scope| scope.covers(requests)))
}

/// Whether policies of the edge surely let nobody in, with a token or without.
pub(super) fn is_refused(world: &World<'_>, route: &EdgeRoute<'_>, requests: &Requests<'_>) -> bool {
    let of = |action: Action| world.deciding.iter().filter(move |p| p.spec.action == action);
    let by_default = of(Action::Allow).any(|p| Reach::of(p).includes(&route.edges));
    // At an edge nobody has an identity of the mesh.
    let nobody = |rule: &Rule| {
        let named = |s: &Source| {
            let peers = [&s.principals, &s.namespaces, &s.service_accounts, &s.trust_domains];
            peers.iter().any(|list| !list.is_empty())
        };
        !rule.from.is_empty() && rule.from.iter().all(named)
    };
    let about = |rule: &Rule| !nobody(rule) && Scope::of_rule(rule).iter().any(|s| s.overlaps(requests));
    let allowed =
        of(Action::Allow).any(|p| Reach::of(p).meets(&route.edges) && p.spec.rules.iter().any(about));
    let all = |rule: &Rule| {
        let everybody = rule.from.is_empty() || rule.from.contains(&Source::default());
        everybody && rule.when.is_empty() && Scope::of_rule(rule).iter().any(|s| s.covers(requests))
    };
    let denied =
        of(Action::Deny).any(|p| Reach::of(p).includes(&route.edges) && p.spec.rules.iter().any(all));
    denied || (by_default && !allowed)
}

pub(super) fn is_closed(world: &World<'_>, route: &EdgeRoute<'_>, requests: &Requests<'_>) -> bool {
    let rules = |action: Action| {
        let policies = world.deciding.iter().filter(move |p| p.spec.action == action);
        policies.map(|policy| (Reach::of(policy), policy.spec.rules.as_slice()))
    };
    let denied = rules(Action::Deny).any(|(reach, rules)| {
        reach.includes(&route.edges) && rules.iter().any(|rule| turns_away(rule, requests))
    });
    if denied {
        return true;
    }
    let by_default = rules(Action::Allow).any(|(reach, _)| reach.includes(&route.edges));
    let let_in = |rule: &Rule| {
        lets_strangers_in(rule) && Scope::of_rule(rule).iter().any(|scope| scope.overlaps(requests))
    };
    by_default
        && !rules(Action::Allow).any(|(reach, rules)| reach.meets(&route.edges) && rules.iter().any(let_in))
}

/// Whether a DENY rule surely matches all of these requests when they come without a token.
fn turns_away(rule: &Rule, requests: &Requests<'_>) -> bool {
    let source = |s: &Source| {
        let others = Source { not_request_principals: Vec::new(), ..s.clone() };
        others == Source::default()
    };
    let from = rule.from.is_empty() || rule.from.iter().any(source);
    let when = rule.when.iter().all(|c| c.key.starts_with("request.auth.") && c.values.is_empty());
    from && when && Scope::of_rule(rule).iter().any(|scope| scope.covers(requests))
}

/// Whether an ALLOW rule may match a request of somebody without a token and without a certificate of the mesh.
fn lets_strangers_in(rule: &Rule) -> bool {
    let nothing_of_identity = |s: &Source| {
        let asked =
            [&s.request_principals, &s.principals, &s.namespaces, &s.service_accounts, &s.trust_domains];
        asked.iter().all(|list| list.is_empty())
    };
    let identity = |key: &str| {
        let of_peer = ["source.principal", "source.namespace", "source.trustDomain", "source.serviceAccount"];
        key.starts_with("request.auth.") || of_peer.contains(&key)
    };
    (rule.from.is_empty() || rule.from.iter().any(nothing_of_identity))
        && !rule.when.iter().any(|c| identity(&c.key) && !c.values.is_empty())
}

/// Whether a rule tells those with a token from those without: an ALLOW that asks for one, a DENY of what has none.
fn needs_token(rule: &Rule, deny: bool) -> bool {
    let source = |s: &Source| match deny {
        true => !s.not_request_principals.is_empty(),
        false => !s.request_principals.is_empty(),
    };
    rule.from.iter().any(source)
        || rule.when.iter().any(|c| {
            let values = if deny { &c.not_values } else { &c.values };
            c.key.starts_with("request.auth.") && !values.is_empty()
        })
}

/// RequestAuthentication refuses bad tokens; it lets pass who brings none.
fn tokens_not_needed(world: &World<'_>, desk: &mut Desk) {
    for tokens in &world.tokens {
        let reach = Reach::of(tokens);
        let needed = world.deciding.iter().filter(|policy| Reach::of(*policy).meets(&reach)).any(|policy| {
            let deny = policy.spec.action == Action::Deny;
            policy.spec.rules.iter().any(|rule| needs_token(rule, deny))
        });
        let required = world.access.iter().any(|policy| {
            let asks = policy.spec.rules.iter().any(|rule| rule.access == Access::Token);
            asks && Reach::of(policy).meets(&reach)
        });
        if needed || required {
            continue;
        }
        let problems = desk.about(tokens.index);
        let message = "a request without a token passes: no rule for these workloads looks at tokens";
        problems.warning(code::TOKEN_NOT_NEEDED, "spec", message);
        problems.help(HELP);
    }
}
