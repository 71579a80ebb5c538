//! What the edge asks of a request's token.

use serde::Serialize;

use super::super::edge::EdgeRoute;
use super::super::protection::{is_closed, is_refused};
use super::super::requests::{Requests, Scope};
use super::super::selection::Reach;
use super::super::world::{Of, World};
use crate::kind::JwtPolicySpec;
use crate::kind::authorization_policy::{Action, Rule};
use crate::kind::jwt_policy::Access;

/// Whether a request needs a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Authentication {
    /// Always.
    Required,
    /// Marked as public for some requests, needed for the others.
    Mixed,
    /// Marked as public. A token that is sent must be good all the same.
    Public,
    /// Hole: a token is verified where one is sent, and none is needed.
    Optional,
    /// Hole: no token is looked at.
    None,
    /// The edge answers itself; nobody is behind.
    NotNeeded,
    /// Policies of the edge let nobody in.
    Refused,
}

/// Whose tokens are taken.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Issuer {
    pub issuer: String,
    /// Empty: any.
    pub audiences: Vec<String>,
}

/// A rule of a JwtPolicy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AccessRule {
    /// `namespace/policy/rule`.
    pub rule: String,
    pub token: bool,
    /// All of them.
    pub scopes: Vec<String>,
    /// At least one; empty: those of the issuer.
    pub audiences: Vec<String>,
}

pub(super) struct Looked {
    pub(super) authentication: Authentication,
    pub(super) issuers: Vec<Issuer>,
    pub(super) rules: Vec<AccessRule>,
    pub(super) claims: Vec<String>,
}

pub(super) fn look_at(world: &World<'_>, route: &EdgeRoute<'_>, pieces: &[Requests<'_>]) -> Looked {
    let policies: Vec<_> = world.access.iter().filter(|p| Reach::of(*p).includes(&route.edges)).collect();
    let issuers = issuers(world, route);
    let mut states = pieces.iter().map(|piece| match () {
        () if is_refused(world, route, piece) => Authentication::Refused,
        () if is_closed(world, route, piece) => Authentication::Required,
        () => of_policies(&policies, piece),
    });
    let first = states.next().unwrap_or(Authentication::None);
    let authentication = match states.fold(first, join) {
        Authentication::None if !issuers.is_empty() => Authentication::Optional,
        other => other,
    };
    let mut rules = Vec::new();
    for policy in &policies {
        for (i, rule) in policy.spec.rules.iter().enumerate() {
            if !pieces.iter().any(|piece| deciding(policy, piece).contains(&i)) {
                continue;
            }
            let meta = &policy.object.meta;
            rules.push(AccessRule {
                rule: format!("{}/{}/{}", meta.namespace, meta.name, rule.name),
                token: rule.access == Access::Token,
                scopes: rule.scopes.clone(),
                audiences: rule.audiences.clone(),
            });
        }
    }
    Looked { authentication, issuers, rules, claims: claims(world, route, pieces) }
}

/// The worse of two: a row is as good as its worst requests.
fn join(a: Authentication, b: Authentication) -> Authentication {
    use Authentication::{Mixed, None, Optional};
    match (a, b) {
        (None | Optional, _) | (_, None | Optional) => None,
        (a, b) if a == b => a,
        _ => Mixed,
    }
}

/// Every policy judges on its own, so one that asks for a token is enough.
fn of_policies(policies: &[&Of<'_, JwtPolicySpec>], piece: &Requests<'_>) -> Authentication {
    let mut best = Authentication::None;
    for policy in policies {
        let rules = deciding(policy, piece);
        let of = |i: &usize| policy.spec.rules.get(*i);
        let covered = rules.iter().filter_map(of).any(|rule| covers(rule, piece));
        let tokens = rules.iter().filter_map(of).filter(|rule| rule.access == Access::Token).count();
        best = match (covered, tokens) {
            (true, n) if n == rules.len() => return Authentication::Required,
            (true, 0) if best == Authentication::None => Authentication::Public,
            (true, n) if n > 0 => Authentication::Mixed,
            _ => best,
        };
    }
    best
}

/// The rules that may be the first to match: up to one that surely matches all.
fn deciding(policy: &Of<'_, JwtPolicySpec>, piece: &Requests<'_>) -> Vec<usize> {
    let mut out = Vec::new();
    for (i, rule) in policy.spec.rules.iter().enumerate() {
        if Scope::of_match(&rule.matches).iter().any(|scope| scope.overlaps(piece)) {
            out.push(i);
        }
        if covers(rule, piece) {
            break;
        }
    }
    out
}

fn covers(rule: &crate::kind::jwt_policy::AccessRuleSpec, piece: &Requests<'_>) -> bool {
    Scope::of_match(&rule.matches).iter().any(|scope| scope.covers(piece))
}

fn issuers(world: &World<'_>, route: &EdgeRoute<'_>) -> Vec<Issuer> {
    let here = world.tokens.iter().filter(|tokens| Reach::of(*tokens).meets(&route.edges));
    let issuer = |rule: &crate::kind::request_authentication::JwtRuleSpec| Issuer {
        issuer: rule.issuer.clone(),
        audiences: rule.audiences.clone(),
    };
    let mut out: Vec<Issuer> = here.flat_map(|tokens| &tokens.spec.rules).map(issuer).collect();
    out.sort();
    out.dedup();
    out
}

/// What the ALLOW rules that are about these requests ask of a token.
fn claims(world: &World<'_>, route: &EdgeRoute<'_>, pieces: &[Requests<'_>]) -> Vec<String> {
    let policies = world.deciding.iter().filter(|p| p.spec.action == Action::Allow);
    let here = policies.filter(|p| Reach::of(*p).meets(&route.edges)).flat_map(|p| &p.spec.rules);
    let about = |rule: &&Rule| {
        let scopes = Scope::of_rule(rule);
        pieces.iter().any(|piece| scopes.iter().any(|scope| scope.overlaps(piece)))
    };
    let mut out = Vec::new();
    for rule in here.filter(about) {
        for source in rule.from.iter().filter(|s| !s.request_principals.is_empty()) {
            out.push(format!("principal: {}", source.request_principals.join(" | ")));
        }
        for condition in rule.when.iter().filter(|c| !c.values.is_empty()) {
            let Some(name) = condition.key.strip_prefix("request.auth.") else { continue };
            let name = name.strip_prefix("claims[").map_or(name, |rest| rest.trim_end_matches(']'));
            out.push(format!("{name}: {}", condition.values.join(" | ")));
        }
    }
    out.sort();
    out.dedup();
    out
}
