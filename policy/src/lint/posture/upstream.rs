//! What is behind a route, and who else is let in there.

use serde::Serialize;

use super::super::edge::{EdgeRoute, methods, paths};
use super::super::pattern::Pattern;
use super::super::plaintext::is_strict;
use super::super::requests::{Requests, Scope};
use super::super::selection::Reach;
use super::super::world::World;
use super::caller::{self, Account};
use crate::kind::Selector;
use crate::kind::authorization_policy::{Action, Rule, Source};
use crate::kind::service_entry::Location;
use crate::kind::virtual_service::{HttpMatch, RouteDestination, StringMatch};
use crate::set::names::{mesh_name, resolve};

/// A service that a route leads to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Upstream {
    /// `name.namespace` for services of the mesh.
    pub host: String,
    pub port: Option<u16>,
    /// Absent: all of the requests.
    pub weight: Option<u32>,
    /// Whether it is a workload that policies of the mesh protect.
    pub in_mesh: bool,
    /// Absent outside the mesh.
    pub mtls: Option<Mtls>,
    /// Whether anybody in the mesh, or on the network where mTLS is not strict, may do there what the route does.
    pub anyone: bool,
    /// Whom AuthorizationPolicies let in for these methods and paths, as they are written.
    pub callers: Vec<String>,
    /// Whether the edge is among them. Its account is taken to be the `app` label of its Gateway's selector.
    pub edge: EdgeAccess,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mtls {
    /// A certificate of the mesh is needed.
    Strict,
    /// Plaintext is taken too, or it is not certain that it is not.
    Permissive,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EdgeAccess {
    Yes,
    No,
    /// The Gateway's selector does not say who the edge is.
    Unknown,
}

pub(in super::super) fn look_at(world: &World<'_>, route: &EdgeRoute<'_>, item: &HttpMatch) -> Vec<Upstream> {
    route.route.route.iter().map(|target| one(world, route, item, target)).collect()
}

fn one(world: &World<'_>, route: &EdgeRoute<'_>, item: &HttpMatch, target: &RouteDestination) -> Upstream {
    let written = &target.destination.host;
    let host = resolve(written, route.service.namespace()).last().unwrap_or_else(|| written.clone());
    let outside = Upstream {
        host: host.clone(),
        port: target.destination.port,
        weight: target.weight,
        in_mesh: false,
        mtls: None,
        anyone: false,
        callers: Vec::new(),
        edge: EdgeAccess::Yes,
    };
    let entry =
        world.entries.iter().find(|entry| entry.spec.hosts.iter().any(|h| *h == host || h == written));
    let labels: Selector;
    let place = match entry {
        Some(entry) => {
            let labelled = entry.spec.endpoints.iter().find(|endpoint| !endpoint.labels.is_empty());
            match labelled.filter(|_| entry.spec.location == Location::MeshInternal) {
                Some(endpoint) => Reach { namespace: entry.namespace(), selector: &endpoint.labels },
                None => return outside,
            }
        }
        None => {
            let Some((name, namespace)) = mesh_name(&host) else { return outside };
            // `app` is the service account unless a join token says otherwise.
            labels = Selector::from([("app".to_owned(), name.to_owned())]);
            Reach { namespace, selector: &labels }
        }
    };
    behind(world, route, &place, &behind_rewrite(route, item), outside)
}

/// The requests of an item as the service gets them.
fn behind_rewrite<'r>(route: &'r EdgeRoute<'_>, item: &HttpMatch) -> Vec<Requests<'r>> {
    let rewrite = route.route.rewrite.as_ref();
    let paths = match (rewrite.and_then(|r| r.uri.as_ref()), &item.uri) {
        (Some(uri), Some(StringMatch::Exact(_))) => vec![Pattern::exact(uri)],
        (Some(uri), Some(StringMatch::Prefix(_))) => vec![Pattern::text(&format!("{uri}*")).of_paths()],
        (Some(_), _) => vec![Pattern::any()],
        (None, _) if rewrite.is_some_and(|r| r.uri_regex.is_some()) => vec![Pattern::any()],
        (None, _) => paths(item),
    };
    let mut out = Vec::new();
    for method in methods(item) {
        for path in &paths {
            let (host, path) = (Pattern::any(), path.clone());
            out.push(Requests { host, method: method.clone(), path, route: &route.id });
        }
    }
    out
}

fn behind(
    world: &World<'_>,
    route: &EdgeRoute<'_>,
    place: &Reach<'_>,
    pieces: &[Requests<'_>],
    outside: Upstream,
) -> Upstream {
    let account = route.edges.selector.get("app");
    let account = account.map(|name| Account { namespace: route.edges.namespace, name });
    let about = |rule: &Rule| {
        let scopes = Scope::of_rule(rule);
        pieces.iter().any(|piece| scopes.iter().any(|scope| scope.overlaps(piece)))
    };
    let of = |action: Action| world.deciding.iter().filter(move |p| p.spec.action == action);
    let by_default = of(Action::Allow).any(|policy| Reach::of(policy).includes(place));
    let denials: Vec<&Rule> =
        of(Action::Deny).filter(|p| Reach::of(*p).includes(place)).flat_map(|p| &p.spec.rules).collect();
    let (mut callers, mut anyone, mut edge) = (Vec::new(), !by_default, EdgeAccess::No);
    if anyone {
        edge = EdgeAccess::Yes;
    }
    for policy in of(Action::Allow).filter(|p| Reach::of(*p).meets(place)) {
        for rule in policy.spec.rules.iter().filter(|rule| about(rule)) {
            let names = caller::callers(rule, policy.namespace());
            anyone |= names.is_empty();
            callers.extend(names);
            edge = match (edge, caller::lets_in(rule, policy.namespace(), account)) {
                (EdgeAccess::Yes, _) | (_, EdgeAccess::Yes) => EdgeAccess::Yes,
                (EdgeAccess::Unknown, _) | (_, EdgeAccess::Unknown) => EdgeAccess::Unknown,
                _ => EdgeAccess::No,
            };
        }
    }
    callers.sort();
    callers.dedup();
    callers.retain(|name| !denials.iter().any(|rule| denies(rule, pieces, name)));
    if let Some(rule) = denials.iter().find(|rule| denies_unnamed(rule, pieces)) {
        // Without an ALLOW, those are let in whom the DENY excepts.
        if anyone {
            callers = rule.from.iter().flat_map(|source| source.not_principals.clone()).collect();
        }
        anyone = false;
    }
    if account.is_some_and(|edge| denials.iter().any(|rule| denies_edge(rule, pieces, edge))) {
        edge = EdgeAccess::No;
    }
    let mtls = if is_strict(world, place) { Mtls::Strict } else { Mtls::Permissive };
    Upstream { in_mesh: true, mtls: Some(mtls), anyone, callers, edge, ..outside }
}

/// Whether a DENY rule surely matches all of these requests, whoever sends them among `who`.
fn denies_all(rule: &Rule, pieces: &[Requests<'_>], who: impl Fn(&Source) -> bool) -> bool {
    let scopes = Scope::of_rule(rule);
    let all = pieces.iter().all(|piece| scopes.iter().any(|scope| scope.covers(piece)));
    all && rule.when.is_empty() && (rule.from.is_empty() || rule.from.iter().any(who))
}

fn denies(rule: &Rule, pieces: &[Requests<'_>], name: &str) -> bool {
    // `namespace bank` and the like are no principals, and which of those they stand for is not known.
    let is_principal = !name.contains(' ');
    denies_all(rule, pieces, |source| {
        let named = Pattern::text(name);
        let by_name = source.principals.iter().any(|p| Pattern::text(p).covers(&named));
        let by_rest = !source.not_principals.is_empty()
            && source.not_principals.iter().all(|p| !Pattern::text(p).overlaps(&named));
        is_principal && ((by_name && only_principals(source)) || (by_rest && only_not_principals(source)))
    })
}

/// Whether everybody is refused but those that are named: DENY with `notPrincipals`, or without a source.
fn denies_unnamed(rule: &Rule, pieces: &[Requests<'_>]) -> bool {
    denies_all(rule, pieces, |source| {
        let bounded = source.not_principals.iter().all(|p| p != "*");
        !source.not_principals.is_empty() && bounded && only_not_principals(source)
    })
}

fn denies_edge(rule: &Rule, pieces: &[Requests<'_>], edge: Account<'_>) -> bool {
    denies_all(rule, pieces, |source| {
        // The trust domain is not known, so only a refusal of all but others is sure.
        let spared = source.not_principals.iter().any(|p| caller::principal(p, edge));
        !source.not_principals.is_empty() && !spared && only_not_principals(source)
    })
}

fn only_principals(source: &Source) -> bool {
    Source { principals: Vec::new(), ..source.clone() } == Source::default()
}

fn only_not_principals(source: &Source) -> bool {
    Source { not_principals: Vec::new(), ..source.clone() } == Source::default()
}
