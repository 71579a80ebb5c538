//! Rules that never decide: of JwtPolicies behind wider ones, and of AuthorizationPolicies at an edge that ask for
//! identities of the mesh.

use super::Desk;
use super::pattern::Pattern;
use super::requests::{Requests, Scope};
use super::selection::Reach;
use super::world::World;
use crate::finding::code;
use crate::finding::problem::Problems;
use crate::kind::JwtPolicySpec;
use crate::kind::authorization_policy::{Condition, Rule, Source};
use crate::kind::request_match::MatchItem;

/// Every rule is compared with all before it; beyond so many, those that are left over are not.
const RULES_MAX: usize = 1_000;

pub(super) fn check(world: &World<'_>, desk: &mut Desk) {
    for policy in &world.access {
        shadowed(policy.spec, desk.about(policy.index));
    }
    for policy in world.deciding.iter().filter(|policy| !policy.spec.selector.is_empty()) {
        let at_edge = |reach: Reach<'_>| reach.includes(&Reach::of(policy));
        let mut gateways = world.gateways.iter().filter(|gateway| !gateway.spec.selector.is_empty());
        if !gateways.any(|gateway| at_edge(Reach::of(gateway))) {
            continue;
        }
        for (i, rule) in policy.spec.rules.iter().enumerate() {
            let Some(place) = asks_for_identity(rule) else { continue };
            let problems = desk.about(policy.index);
            let message = "nobody who comes to an edge has an identity of the mesh, so this never matches";
            problems.warning(code::MESH_IDENTITY_AT_EDGE, format!("spec.rules[{i}]{place}"), message);
            problems.help(
                "users are requestPrincipals; whom the edge may call is written at the service behind it",
            );
        }
    }
}

/// The first rule that matches decides, so one behind a wider one never does.
fn shadowed(spec: &JwtPolicySpec, problems: &mut Problems) {
    for (i, rule) in spec.rules.iter().enumerate().take(RULES_MAX) {
        let wider = spec.rules.iter().take(i).find(|earlier| {
            let scopes = Scope::of_match(&earlier.matches);
            let covered = |part: &Requests<'_>| scopes.iter().any(|scope| scope.covers(part));
            !rule.matches.is_empty() && rule.matches.iter().all(|item| parts(item).iter().all(covered))
        });
        let Some(wider) = wider else { continue };
        let message = format!("the rule {:?} above takes all requests that this one is for", wider.name);
        problems.warning(code::UNREACHABLE_ACCESS, format!("spec.rules[{i}]"), message);
        problems.help("the first rule that matches decides: put the narrower one first, or take it out");
    }
}

/// What an item is about.
fn parts(item: &MatchItem) -> Vec<Requests<'_>> {
    let of = |values: &[String], read: fn(&str) -> Pattern| match values.is_empty() {
        true => vec![Pattern::any()],
        false => values.iter().map(|value| read(value)).collect(),
    };
    let (hosts, methods, paths) = (
        of(&item.hosts, Pattern::host_text),
        of(&item.methods, Pattern::text),
        of(&item.paths, Pattern::path),
    );
    let routes =
        if item.routes.is_empty() { vec![""] } else { item.routes.iter().map(String::as_str).collect() };
    let mut out = Vec::new();
    for route in &routes {
        for (host, method) in hosts.iter().flat_map(|host| methods.iter().map(move |method| (host, method))) {
            let part = |path: &Pattern| Requests {
                host: host.clone(),
                method: method.clone(),
                path: path.clone(),
                route,
            };
            out.extend(paths.iter().map(part));
        }
    }
    out
}

/// Where a rule can match only a caller with a certificate of the mesh.
fn asks_for_identity(rule: &Rule) -> Option<String> {
    let named = |s: &Source| {
        let lists = [&s.principals, &s.namespaces, &s.service_accounts, &s.trust_domains];
        lists.iter().any(|list| !list.is_empty())
    };
    let asked = |c: &Condition| {
        let keys = ["source.principal", "source.namespace", "source.serviceAccount", "source.trustDomain"];
        keys.contains(&c.key.as_str()) && !c.values.is_empty()
    };
    if !rule.from.is_empty() && rule.from.iter().all(named) {
        return Some(".from".into());
    }
    rule.when.iter().position(asked).map(|at| format!(".when[{at}]"))
}
