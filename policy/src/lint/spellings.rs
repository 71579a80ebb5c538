//! Limits and guards for one spelling of a path, at an edge that lets through others which servers take for it.

use super::Desk;
use super::edge::EdgeRoute;
use super::pattern::Pattern;
use super::protection::is_refused;
use super::requests::{Requests, Scope};
use super::selection::Reach;
use super::world::World;
use crate::finding::code;
use crate::finding::problem::Problems;
use crate::kind::mesh_config::PathNormalization;
use crate::kind::rate_limit_policy::Mode;
use crate::kind::request_match::MatchItem;

/// One rule about requests.
struct Restriction<'o> {
    reach: Reach<'o>,
    items: &'o [MatchItem],
    /// Where its match stands.
    path: String,
}

pub(super) fn check(world: &World<'_>, desk: &mut Desk) {
    let routes = world.edge_routes();
    for policy in &world.limits {
        let numbered = policy.spec.limits.iter().enumerate();
        for (i, limit) in numbered.filter(|(_, limit)| limit.mode == Mode::Enforce) {
            let (reach, path) = (Reach::of(policy), format!("spec.limits[{i}].match"));
            Restriction { reach, items: &limit.matches, path }.check(
                world,
                &routes,
                desk.about(policy.index),
            );
        }
    }
    for guard in &world.guards {
        for (i, rule) in guard.spec.rules.iter().enumerate() {
            let (reach, path) = (Reach::of(guard), format!("spec.rules[{i}].match"));
            Restriction { reach, items: &rule.matches, path }.check(world, &routes, desk.about(guard.index));
        }
    }
}

impl Restriction<'_> {
    fn check(&self, world: &World<'_>, routes: &[EdgeRoute<'_>], problems: &mut Problems) {
        for (i, item) in self.items.iter().enumerate() {
            for (j, path) in item.paths.iter().enumerate() {
                let passes = |other: &String| self.lets_pass(world, routes, item, other);
                let Some(other) = others(world, path).into_iter().find(passes) else { continue };
                let message = format!("{other:?} passes by {path:?}, and servers often take both for one");
                problems.warning(code::PATH_SPELLING, format!("{}[{i}].paths[{j}]", self.path), message);
                problems.help(match other.strip_prefix("//") {
                    Some(_) => {
                        "set normalization: MERGE_SLASHES in MeshConfig, or narrow the route".to_owned()
                    }
                    None => format!("write {:?}, or let the route take {path:?} alone", format!("{path}*")),
                });
            }
        }
    }

    /// Whether a route that the item is about takes the other spelling too, without any item of the rule being about it.
    fn lets_pass(&self, world: &World<'_>, routes: &[EdgeRoute<'_>], item: &MatchItem, other: &str) -> bool {
        let spelled = Pattern::exact(other);
        let meant = |item: &MatchItem| item.paths.iter().any(|path| Pattern::path(path).covers(&spelled));
        let of_item = Scope::of_match(std::slice::from_ref(item));
        let let_in = |route: &EdgeRoute<'_>, piece: &Requests<'_>| {
            piece.path.overlaps(&spelled)
                && of_item.iter().any(|scope| scope.overlaps(piece))
                && !is_refused(world, route, &Requests { path: spelled.clone(), ..piece.clone() })
        };
        let mut here = routes.iter().filter(|route| route.forwards() && self.reach.meets(&route.edges));
        !self.items.iter().any(meant)
            && here.any(|route| route.requests().iter().any(|piece| let_in(route, piece)))
    }
}

/// What servers often take for a path, of what normalization leaves as it is.
fn others(world: &World<'_>, path: &str) -> Vec<String> {
    if path.contains('{') || !path.starts_with('/') {
        return Vec::new();
    }
    let mut others = match (path.bytes().last(), path.strip_suffix('/')) {
        (Some(last), _) if last.is_ascii_alphanumeric() => {
            vec![format!("{path}/"), format!("{path}."), format!("{path}%20")]
        }
        (_, Some(folder)) if !folder.is_empty() => vec![folder.to_owned()],
        _ => Vec::new(),
    };
    let kept = [PathNormalization::None, PathNormalization::Base].contains(&world.mesh.path_normalization);
    let beginning = path.strip_suffix('*').unwrap_or(path);
    if kept && beginning != "/" {
        others.push(format!("/{beginning}"));
    }
    others
}
