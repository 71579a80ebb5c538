//! The `match` blocks of our own kinds, as far as they name routes: a rule about a route that does not exist never holds.

use super::check::Checker;
use super::tokens::may_meet;
use crate::finding::code;
use crate::finding::problem::did_you_mean;
use crate::kind::request_match::MatchItem;
use crate::kind::{Object, Selector, Spec};

impl Checker<'_> {
    pub(super) fn matches(&mut self, object: &Object, objects: &[Object]) {
        let (selector, rules): (&Selector, Vec<(String, &[MatchItem])>) = match &object.spec {
            Spec::JwtPolicy(spec) => (&spec.selector, each("rules", spec.rules.iter().map(|r| &*r.matches))),
            Spec::RateLimitPolicy(spec) => {
                (&spec.selector, each("limits", spec.limits.iter().map(|l| &*l.matches)))
            }
            Spec::RequestGuard(spec) => {
                (&spec.selector, each("rules", spec.rules.iter().map(|r| &*r.matches)))
            }
            _ => return,
        };
        let asking = |(_, items): &&(String, &[MatchItem])| items.iter().any(|item| !item.routes.is_empty());
        let Some((path, _)) = rules.iter().find(asking) else { return };
        let at_an_edge = objects.iter().any(|other| match &other.spec {
            Spec::Gateway(gateway) => may_meet((other, &gateway.selector), (object, selector)),
            _ => false,
        });
        if !at_an_edge {
            self.report(object, |p| {
                let message = "only an edge has routes, and no Gateway selects a workload of this policy";
                p.warning(code::NEVER_MATCHES, format!("{path}.match"), message);
                p.help("match by hosts, methods and paths, or select the edge");
            });
            return;
        }
        let known = ids(objects);
        for (path, items) in &rules {
            for (i, item) in items.iter().enumerate() {
                for (j, route) in item.routes.iter().enumerate().filter(|(_, route)| !is_known(route, &known))
                {
                    self.unknown_route(object, &format!("{path}.match[{i}].routes[{j}]"), route, &known);
                }
            }
        }
    }

    fn unknown_route(&mut self, object: &Object, path: &str, route: &str, known: &[String]) {
        let names = known.iter().map(|id| if route.contains('/') { id.as_str() } else { last(id) });
        let near = did_you_mean(route, names).map(|near| format!("did you mean {near:?}?"));
        self.report(object, |p| {
            p.warning(code::UNKNOWN_ROUTE, path, format!("no VirtualService has a route {route:?}"));
            p.help(near.unwrap_or_else(|| "this matches nothing until one has".into()));
        });
    }
}

fn each<'m>(field: &str, matches: impl Iterator<Item = &'m [MatchItem]>) -> Vec<(String, &'m [MatchItem])> {
    matches.enumerate().map(|(i, items)| (format!("spec.{field}[{i}]"), items)).collect()
}

/// The ids of all routes, `namespace/virtualservice/name-or-index`.
fn ids(objects: &[Object]) -> Vec<String> {
    let mut ids = Vec::new();
    for object in objects {
        let Spec::VirtualService(spec) = &object.spec else { continue };
        for (number, route) in spec.http.iter().enumerate() {
            let name = route.name.clone().unwrap_or_else(|| number.to_string());
            ids.push(format!("{}/{}/{name}", object.meta.namespace, object.meta.name));
        }
    }
    ids
}

fn is_known(route: &str, ids: &[String]) -> bool {
    ids.iter().any(|id| id == route || last(id) == route)
}

fn last(id: &str) -> &str {
    id.rsplit('/').next().unwrap_or(id)
}
