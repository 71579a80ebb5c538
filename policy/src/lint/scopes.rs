//! Writes that a scope for reading is enough for.

use super::Desk;
use super::edge::EdgeRoute;
use super::pattern::Pattern;
use super::protection::is_refused;
use super::requests::{Requests, Scope};
use super::selection::Reach;
use super::world::{Of, World};
use crate::finding::code;
use crate::kind::JwtPolicySpec;
use crate::kind::authorization_policy::{Action, Condition, Rule};
use crate::kind::jwt_policy::{Access, AccessRuleSpec};

const WRITES: [&str; 4] = ["POST", "PUT", "PATCH", "DELETE"];
const CLAIMS: [&str; 6] = ["scope", "scp", "scopes", "permission", "permissions", "roles"];
/// Words of a scope that is for looking only, and of one that is for more.
const READING: [&str; 8] = ["read", "reads", "reader", "readonly", "view", "viewer", "list", "ro"];
const WRITING: [&str; 12] = [
    "write",
    "writer",
    "rw",
    "readwrite",
    "admin",
    "manage",
    "create",
    "update",
    "delete",
    "edit",
    "full",
    "all",
];

pub(super) fn check(world: &World<'_>, desk: &mut Desk) {
    of_tokens(world, desk);
    for policy in world.deciding.iter().filter(|p| p.spec.action == Action::Allow) {
        for (i, rule) in policy.spec.rules.iter().enumerate() {
            let Some(scope) = reading_scope(rule) else { continue };
            for (path, method) in writes(rule) {
                let message = format!("the scope {scope:?} is enough for {method}");
                let problems = desk.about(policy.index);
                problems.warning(code::WRITE_BY_READ_SCOPE, format!("spec.rules[{i}]{path}"), message);
                problems.help(HELP);
            }
        }
    }
}

pub(super) const HELP: &str =
    "write methods: [GET, HEAD] here, and a rule with a scope of its own for the others";

/// The same in rules of JwtPolicies. Where an edge is known, only what its routes let through counts.
fn of_tokens(world: &World<'_>, desk: &mut Desk) {
    let routes = world.edge_routes();
    for policy in &world.access {
        let here = || routes.iter().filter(|route| Reach::of(policy).meets(&route.edges));
        for (i, rule) in policy.spec.rules.iter().enumerate() {
            let Some(scope) = reading_rule(rule) else { continue };
            let method = match here().next() {
                None => written(rule),
                Some(_) => here().filter(|route| route.forwards()).find_map(|route| {
                    route.requests().iter().find_map(|piece| write_let_in(world, route, policy, i, piece))
                }),
            };
            let Some(method) = method else { continue };
            let problems = desk.about(policy.index);
            let message = format!("the scope {scope:?} is enough for {method}");
            problems.warning(code::WRITE_BY_READ_SCOPE, format!("spec.rules[{i}]"), message);
            problems.help(HELP);
        }
    }
}

/// A write that a scope for reading is enough for, among parts of what a route takes.
pub(super) fn hole(world: &World<'_>, route: &EdgeRoute<'_>, pieces: &[Requests<'_>]) -> Option<String> {
    let said = |scope: &str, method: &str| Some(format!("the scope {scope:?} is enough for {method}"));
    for policy in world.access.iter().filter(|p| Reach::of(*p).meets(&route.edges)) {
        for (i, rule) in policy.spec.rules.iter().enumerate() {
            let Some(scope) = reading_rule(rule) else { continue };
            let write = pieces.iter().find_map(|piece| write_let_in(world, route, policy, i, piece));
            if let Some(method) = write {
                return said(scope, method);
            }
        }
    }
    let allows = world.deciding.iter().filter(|p| p.spec.action == Action::Allow);
    for rule in allows.filter(|p| Reach::of(*p).meets(&route.edges)).flat_map(|p| &p.spec.rules) {
        let Some(scope) = reading_scope(rule) else { continue };
        let scopes = Scope::of_rule(rule);
        let write = pieces.iter().flat_map(|piece| writes_among(piece)).find(|(_, narrowed)| {
            scopes.iter().any(|scope| scope.overlaps(narrowed)) && !asks_to_write(world, route, narrowed)
        });
        if let Some((method, _)) = write {
            return said(scope, method);
        }
    }
    None
}

/// The write that comes to this rule of a policy first, and for which nothing else asks for more.
fn write_let_in(
    world: &World<'_>,
    route: &EdgeRoute<'_>,
    policy: &Of<'_, JwtPolicySpec>,
    rule: usize,
    piece: &Requests<'_>,
) -> Option<&'static str> {
    let scopes = |rule: &AccessRuleSpec| Scope::of_match(&rule.matches);
    let mine = policy.spec.rules.get(rule)?;
    let found = writes_among(piece).find(|(_, write)| {
        let before = policy.spec.rules.iter().take(rule);
        scopes(mine).iter().any(|scope| scope.overlaps(write))
            && !before.flat_map(scopes).any(|scope| scope.covers(write))
            && !is_refused(world, route, write)
            && !asks_to_write(world, route, write)
            && !allowed_by_more(world, route, write)
    });
    found.map(|(method, _)| method)
}

/// A part with each write in place of its methods.
fn writes_among<'r>(piece: &Requests<'r>) -> impl Iterator<Item = (&'static str, Requests<'r>)> + use<'r> {
    let piece = piece.clone();
    let write = move |method: &'static str| {
        let narrowed = Requests { method: Pattern::exact(method), ..piece.clone() };
        piece.method.overlaps(&narrowed.method).then_some((method, narrowed))
    };
    WRITES.into_iter().filter_map(write)
}

/// Whether a JwtPolicy surely asks for a scope that is not for reading.
fn asks_to_write(world: &World<'_>, route: &EdgeRoute<'_>, write: &Requests<'_>) -> bool {
    world.access.iter().filter(|p| Reach::of(*p).includes(&route.edges)).any(|policy| {
        let covers = |rule: &&AccessRuleSpec| Scope::of_match(&rule.matches).iter().any(|s| s.covers(write));
        let overlaps =
            |rule: &&AccessRuleSpec| Scope::of_match(&rule.matches).iter().any(|s| s.overlaps(write));
        let Some(last) = policy.spec.rules.iter().position(|rule| covers(&rule)) else { return false };
        let deciding = policy.spec.rules.iter().take(last + 1).filter(overlaps);
        deciding.into_iter().all(|rule| rule.scopes.iter().any(|scope| !is_for_reading(scope)))
    })
}

/// Whether every ALLOW rule of the edge that is about a write asks for a claim of scopes that is not for reading.
fn allowed_by_more(world: &World<'_>, route: &EdgeRoute<'_>, write: &Requests<'_>) -> bool {
    let allow = || world.deciding.iter().filter(|p| p.spec.action == Action::Allow);
    let by_default = allow().any(|p| Reach::of(p).includes(&route.edges));
    let rules = allow().filter(|p| Reach::of(*p).meets(&route.edges)).flat_map(|p| &p.spec.rules);
    let mut about = rules.filter(|rule| Scope::of_rule(rule).iter().any(|s| s.overlaps(write)));
    by_default
        && about.all(|rule| {
            rule.when.iter().any(|c| is_of_scopes(c) && !c.values.iter().any(|v| is_for_reading(v)))
        })
}

/// A scope for reading where a rule asks for no other.
fn reading_rule(rule: &AccessRuleSpec) -> Option<&str> {
    let all = rule.access == Access::Token && rule.scopes.iter().all(|scope| is_for_reading(scope));
    rule.scopes.first().filter(|_| all).map(String::as_str)
}

/// The first write that a rule is about.
fn written(rule: &AccessRuleSpec) -> Option<&'static str> {
    match rule.matches.is_empty() {
        true => Some("every method"),
        false => rule.matches.iter().find_map(|item| first_write(&item.methods, &[])),
    }
}

/// A scope for reading that is all a rule asks for. Values are alternatives; conditions must all hold.
fn reading_scope(rule: &Rule) -> Option<&str> {
    let mut found = None;
    for condition in rule.when.iter().filter(|c| is_of_scopes(c)) {
        found = Some(condition.values.iter().find(|value| is_for_reading(value))?);
    }
    found.map(String::as_str)
}

fn is_of_scopes(condition: &Condition) -> bool {
    let name = condition.key.strip_prefix("request.auth.claims[").and_then(|rest| rest.strip_suffix(']'));
    name.is_some_and(|name| CLAIMS.contains(&name)) && !condition.values.is_empty()
}

fn is_for_reading(scope: &str) -> bool {
    let lower = scope.to_ascii_lowercase();
    let words = || lower.split(|c: char| !c.is_ascii_alphanumeric());
    words().any(|word| READING.contains(&word)) && !words().any(|word| WRITING.contains(&word))
}

/// The alternatives of a rule that let a write through, with the first method that they do.
fn writes(rule: &Rule) -> Vec<(String, &'static str)> {
    if rule.to.is_empty() {
        return vec![(String::new(), "every method")];
    }
    let mut out = Vec::new();
    for (j, operation) in rule.to.iter().enumerate() {
        let path = format!(".to[{j}].operation");
        if operation.methods.is_empty() && operation.not_methods.is_empty() {
            out.push((path, "every method"));
        } else if let Some(method) = first_write(&operation.methods, &operation.not_methods) {
            out.push((format!("{path}.methods"), method));
        }
    }
    out
}

pub(super) fn first_write(methods: &[String], not_methods: &[String]) -> Option<&'static str> {
    let takes = |list: &[String], method: &str| list.iter().any(|m| Pattern::text(m).matches(method));
    WRITES
        .into_iter()
        .find(|method| (methods.is_empty() || takes(methods, method)) && !takes(not_methods, method))
}
