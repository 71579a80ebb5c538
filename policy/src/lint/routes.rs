//! Routes of a VirtualService that an earlier one takes everything from.

use std::collections::BTreeMap;

use super::Desk;
use super::edge::{methods, paths};
use super::pattern::Pattern;
use super::world::World;
use crate::finding::code;
use crate::finding::problem::Problems;
use crate::kind::VirtualServiceSpec;
use crate::kind::virtual_service::{HttpMatch, HttpRoute, StringMatch};

/// Every item is compared with all before it; beyond so many, those that are left over are not.
const COMPARISONS_MAX: usize = 1_000_000;

pub(super) fn check(world: &World<'_>, desk: &mut Desk) {
    let mut left = COMPARISONS_MAX;
    for service in &world.services {
        look_at(service.spec, desk.about(service.index), &mut left);
    }
}

/// An item of a match that was tried before.
struct Earlier {
    route: usize,
    /// `None`: the route is for every request.
    item: Option<(usize, Item)>,
}

/// An item with its patterns.
struct Item {
    written: HttpMatch,
    paths: Vec<Pattern>,
    methods: Vec<Pattern>,
    authorities: Vec<Pattern>,
    schemes: Vec<Pattern>,
}

fn look_at(spec: &VirtualServiceSpec, problems: &mut Problems, left: &mut usize) {
    let mut earlier: Vec<Earlier> = Vec::new();
    for (number, route) in spec.http.iter().enumerate() {
        let mine: Vec<Item> = items(route);
        let mut taken = Vec::new();
        let mut own = Vec::new();
        for (i, item) in mine.into_iter().enumerate() {
            *left = left.saturating_sub(earlier.len() + own.len());
            if *left == 0 {
                return;
            }
            let found =
                earlier.iter().chain(&own).find(|e| e.item.as_ref().is_none_or(|(_, e)| e.takes(&item)));
            taken.push(found.map(|e| (e.route, e.item.as_ref().map(|(at, _)| *at))));
            own.push(Earlier { route: number, item: (!route.matches.is_empty()).then_some((i, item)) });
        }
        report(spec, number, &taken, problems);
        earlier.extend(own);
    }
}

fn report(
    spec: &VirtualServiceSpec,
    number: usize,
    taken: &[Option<(usize, Option<usize>)>],
    problems: &mut Problems,
) {
    let name = |number: usize| match spec.http.get(number).and_then(|r| r.name.as_deref()) {
        Some(name) => format!("{name:?}"),
        None => format!("http[{number}]"),
    };
    let by_others = |t: &Option<(usize, Option<usize>)>| t.is_some_and(|(route, _)| route != number);
    if taken.iter().all(by_others) {
        let first = taken.iter().flatten().next().map_or(0, |(route, _)| *route);
        let message = format!("the route {} takes all requests that this one is for", name(first));
        problems.warning(code::UNREACHABLE_ROUTE, format!("spec.http[{number}]"), message);
        problems.help("routes are tried in their order: put the narrower one first, or take it out");
        return;
    }
    for (i, found) in taken.iter().enumerate() {
        let Some((route, item)) = found else { continue };
        let place = match (*route == number, item) {
            (true, Some(item)) => format!("match[{item}] of this route"),
            _ => format!("the route {}", name(*route)),
        };
        let message = format!("{place} takes all requests that this item is for");
        problems.warning(code::INEFFECTIVE_MATCH, format!("spec.http[{number}].match[{i}]"), message);
        problems.help("take the item out, or put its route first");
    }
}

/// A route without a match is one item that asks for nothing.
fn items(route: &HttpRoute) -> Vec<Item> {
    let anything = [HttpMatch::default()];
    let written = if route.matches.is_empty() { &anything[..] } else { &route.matches };
    written.iter().map(Item::new).collect()
}

impl Item {
    fn new(written: &HttpMatch) -> Self {
        let sets = |of: &Option<StringMatch>| match of {
            Some(matching) => Pattern::of_match(matching, false),
            None => vec![Pattern::any()],
        };
        Self {
            written: written.clone(),
            paths: paths(written),
            methods: methods(written),
            authorities: sets(&written.authority),
            schemes: sets(&written.scheme),
        }
    }

    /// Whether every request that fits `other` surely fits this one too.
    fn takes(&self, other: &Self) -> bool {
        let (a, b) = (&self.written, &other.written);
        (a.port.is_none() || a.port == b.port)
            && all_named(&a.gateways, &b.gateways)
            && (a.source_namespace.is_none() || a.source_namespace == b.source_namespace)
            && a.source_labels.iter().all(|(key, value)| b.source_labels.get(key) == Some(value))
            && all_in(&self.paths, &other.paths)
            && all_in(&self.methods, &other.methods)
            && all_in(&self.authorities, &other.authorities)
            && all_in(&self.schemes, &other.schemes)
            && asked_too(&a.headers, &b.headers)
            && asked_too(&a.query_params, &b.query_params)
            // Absence of a value is implied by the absence of the header, not the other way round.
            && a.without_headers.iter().all(|(name, value)| {
                b.without_headers.get(name).is_some_and(|theirs| theirs.is_none() || theirs == value)
            })
    }
}

/// Lists of whom an item is for; an empty one is for all.
fn all_named(wide: &[String], narrow: &[String]) -> bool {
    wide.is_empty() || (!narrow.is_empty() && narrow.iter().all(|name| wide.contains(name)))
}

fn all_in(wide: &[Pattern], narrow: &[Pattern]) -> bool {
    narrow.iter().all(|one| wide.iter().any(|pattern| pattern.covers(one)))
}

/// Whether all that is asked for in `a` is asked for in `b`. `None` is presence, which any value implies.
fn asked_too(a: &BTreeMap<String, Option<StringMatch>>, b: &BTreeMap<String, Option<StringMatch>>) -> bool {
    a.iter().all(|(name, wanted)| {
        b.get(name).is_some_and(|theirs| match (wanted, theirs) {
            (None, _) => true,
            (Some(wide), Some(narrow)) => {
                all_in(&Pattern::of_match(wide, false), &Pattern::of_match(narrow, false))
            }
            (Some(_), None) => false,
        })
    })
}
