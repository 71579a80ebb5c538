//! From single requests to what a person reads: callers that gain or lose the same stand together.

use std::collections::{BTreeMap, BTreeSet};

use super::endpoint::Endpoints;
use super::party::Caller;
use super::{Change, Flip, place};
use crate::explain::Mesh;
use crate::kind::authorization_policy::path::PathMatch;

/// Methods and paths, by their positions.
type Cells = BTreeSet<(usize, usize)>;

/// What changes at one service. `meshes`: old, new.
pub(super) fn changes(
    service: &str,
    flips: Vec<Flip>,
    callers: &[Caller],
    endpoints: &Endpoints,
    meshes: [&Mesh<'_>; 2],
) -> Vec<Change> {
    let mut by_caller: BTreeMap<(bool, usize), Vec<Flip>> = BTreeMap::new();
    for flip in flips {
        by_caller.entry((!flip.gains, flip.caller)).or_default().push(flip);
    }
    let mut groups: BTreeMap<(bool, Vec<String>), Change> = BTreeMap::new();
    for ((_, caller), flips) in by_caller {
        let Some(first) = flips.first() else { continue };
        let requests = requests(&flips, endpoints);
        let name = callers.get(caller).map(|caller| caller.name.clone()).unwrap_or_default();
        let [old, new] = meshes;
        let group = groups.entry((!first.gains, requests.clone())).or_insert_with(|| Change {
            service: service.to_owned(),
            callers: Vec::new(),
            gains: first.gains,
            requests,
            rule: place(if first.gains { new } else { old }, first.rule.as_ref()),
            refused: first.refused.clone(),
        });
        group.callers.push(name);
    }
    let mut changes: Vec<Change> = groups.into_values().collect();
    for change in &mut changes {
        if change.callers.len() == callers.len() && callers.len() > 1 {
            change.callers = vec!["everybody".to_owned()];
        }
    }
    changes
}

/// Each context with what changes in it; one in which nothing changes that does not change without it is left out.
fn requests(flips: &[Flip], endpoints: &Endpoints) -> Vec<String> {
    let mut by_context: BTreeMap<usize, Cells> = BTreeMap::new();
    for flip in flips {
        by_context.entry(flip.context).or_default().insert((flip.method, flip.path));
    }
    let plain = by_context.get(&0).cloned().unwrap_or_default();
    let mut out = Vec::new();
    let mut said: BTreeSet<Vec<String>> = BTreeSet::new();
    for (context, cells) in by_context {
        let more: Cells = if context == 0 { cells } else { cells.difference(&plain).copied().collect() };
        let texts = collapsed(&more, endpoints);
        let around = endpoints.contexts.get(context).map(|context| context.shown()).unwrap_or_default();
        // Of contexts in which the same changes, one is enough.
        if texts.is_empty() || (context != 0 && !said.insert(texts.clone())) {
            continue;
        }
        let with = if around.is_empty() { String::new() } else { format!(" with {around}") };
        out.extend(texts.into_iter().map(|text| format!("{text}{with}")));
    }
    out
}

/// Whole rows and columns under one name.
fn collapsed(cells: &Cells, endpoints: &Endpoints) -> Vec<String> {
    let (methods, paths) = (&endpoints.methods, &endpoints.paths);
    if cells.len() == methods.len().saturating_mul(paths.len()) {
        return vec!["every request".to_owned()];
    }
    let has = |method, path| cells.contains(&(method, path));
    let whole_paths: Vec<usize> =
        (0..paths.len()).filter(|path| (0..methods.len()).all(|method| has(method, *path))).collect();
    let whole_methods: Vec<usize> =
        (0..methods.len()).filter(|method| (0..paths.len()).all(|path| has(*method, path))).collect();
    let mut out: Vec<String> = Vec::new();
    let mut push = |text: String| {
        if !out.contains(&text) {
            out.push(text);
        }
    };
    let method_name = |at: usize| methods.get(at).map(|(_, shown)| shown.as_str()).unwrap_or_default();
    whole_methods.iter().for_each(|method| push(format!("{} of any path", method_name(*method))));
    whole_paths
        .iter()
        .for_each(|path| push(format!("any method of {}", path_name(&whole_paths, *path, paths))));
    for (method, path) in cells {
        if !whole_methods.contains(method) && !whole_paths.contains(path) {
            let row: Vec<usize> = cells.iter().filter(|(m, _)| m == method).map(|(_, path)| *path).collect();
            push(format!("{} {}", method_name(*method), path_name(&row, *path, paths)));
        }
    }
    out
}

/// Paths that a pattern is shown without.
const EXCEPTIONS_MAX: usize = 5;

/// The pattern that a path stands for, where all that stand for it are among `row`; else the path itself. Paths that the
/// pattern matches and that are not in `row` are named.
fn path_name(row: &[usize], path: usize, paths: &[(String, String)]) -> String {
    let Some((text, shown)) = paths.get(path) else { return String::new() };
    let others = || paths.iter().enumerate().filter(|(index, _)| !row.contains(index));
    if text == shown {
        return shown.clone();
    }
    if others().any(|(_, (_, other))| other == shown) {
        return format!("{text} ({shown})");
    }
    let Ok(pattern) = PathMatch::widest(shown).map_err(drop) else { return shown.clone() };
    let but = others().filter(|(_, (other, _))| pattern.matches(other)).map(|(_, (other, _))| other.as_str());
    let but: Vec<&str> = but.take(EXCEPTIONS_MAX).collect();
    if but.is_empty() { shown.clone() } else { format!("{shown} but {}", but.join(", ")) }
}
