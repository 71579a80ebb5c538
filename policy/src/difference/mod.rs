//! Who gains and who loses access when one set of policies takes the place of another.
//!
//! Policies are patterns over requests, so a finite set of requests stands for all: every caller, service, method, path,
//! port, host and condition that either set names, one that fits each pattern, and one that nothing names. All of them are
//! judged by both sets, by what decides in proxies.

mod endpoint;
mod fill;
mod party;
mod replay;
mod summary;

use std::collections::BTreeSet;

use palisade_identity::TrustDomain;
use serde::Serialize;

use crate::decision::RuleRef;
use crate::explain::{Mesh, MeshError, Question, RulePlace, Target, decide};
use crate::finding::Findings;
use crate::kind::Kind;
use crate::projection::Workload;
use crate::set::PolicySet;
use endpoint::Endpoints;
use party::Caller;
pub use replay::{Replay, ReplayedChange, Replayer};

/// Requests of one comparison. Each is judged twice.
pub const REQUESTS_MAX: usize = 400_000;

/// What changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Difference {
    pub changes: Vec<Change>,
    /// Requests that were judged by both sets.
    pub requests: usize,
    /// Services, or kinds of requests, that were left out because there would have been more than [`REQUESTS_MAX`].
    pub left_out: Vec<String>,
}

/// Callers that gain, or lose, the same requests at one service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// `namespace/name`, with labels that policies select by; `any other workload of namespace`.
    pub service: String,
    pub callers: Vec<String>,
    pub gains: bool,
    pub requests: Vec<String>,
    /// The rule that lets the first of them in: of the new set where they gain, else of the old one.
    pub rule: Option<RulePlace>,
    /// Why the other set refuses it.
    pub refused: String,
}

/// Why sets cannot be compared.
#[derive(Debug, thiserror::Error)]
pub enum DifferenceError {
    #[error("the {which} set: {source}")]
    Mesh { which: &'static str, source: MeshError },
    #[error("the {which} policies do not compile for {workload}")]
    Compile { which: &'static str, workload: String, findings: Findings },
}

/// Compares what two sets let in. `domain`: the mesh's own, where documents do not tell it.
pub fn compare(
    old: &PolicySet,
    new: &PolicySet,
    domain: Option<&TrustDomain>,
) -> Result<Difference, DifferenceError> {
    compare_where(old, new, domain, REQUESTS_MAX, |_, _| true)
}

/// The same for those services alone whose policies differ, and with a bound of its own on requests: for an operator who
/// waits.
pub fn compare_changed(
    old: &PolicySet,
    new: &PolicySet,
    domain: Option<&TrustDomain>,
    requests_max: usize,
) -> Result<Difference, DifferenceError> {
    compare_where(old, new, domain, requests_max, |before, after| !before.has_policies_of(after))
}

fn compare_where(
    old: &PolicySet,
    new: &PolicySet,
    domain: Option<&TrustDomain>,
    requests_max: usize,
    is_wanted: impl Fn(&Target, &Target) -> bool,
) -> Result<Difference, DifferenceError> {
    let (old, new) = meshes(old, new, domain)?;
    let sets = [old.set(), new.set()];
    let mut out = Difference::default();
    for (name, workload) in party::services(&sets, &new) {
        let before = target(&old, &workload, "old")?;
        let after = target(&new, &workload, "new")?;
        if !is_wanted(&before, &after) {
            continue;
        }
        let callers = party::callers(&sets, &new, &workload, before.is_edge() || after.is_edge());
        let endpoints = Endpoints::new(&sets, &workload);
        let size = callers.len().saturating_mul(endpoints.size());
        if out.requests.saturating_add(size) > requests_max {
            out.left_out.push(name);
            continue;
        }
        out.requests = out.requests.saturating_add(size);
        let flips = flips(&before, &after, &callers, &endpoints);
        out.changes.extend(summary::changes(&name, flips, &callers, &endpoints, [&old, &new]));
    }
    Ok(out)
}

/// The two sets. Where one names no trust domain, or several, the other's is taken.
pub(crate) fn meshes<'s>(
    old: &'s PolicySet,
    new: &'s PolicySet,
    domain: Option<&TrustDomain>,
) -> Result<(Mesh<'s>, Mesh<'s>), DifferenceError> {
    let of =
        |which, set, domain| Mesh::new(set, domain).map_err(|source| DifferenceError::Mesh { which, source });
    let after = of("new", new, domain.cloned())?;
    let before = of("old", old, Some(after.trust_domain().clone()))?;
    Ok((before, after))
}

pub(crate) fn target(
    mesh: &Mesh<'_>,
    workload: &Workload,
    which: &'static str,
) -> Result<Target, DifferenceError> {
    let workload_name = || workload.id.principal().to_owned();
    let refused = |findings| DifferenceError::Compile { which, workload: workload_name(), findings };
    mesh.target(workload).map_err(refused)
}

/// One request that the two sets judge differently.
struct Flip {
    caller: usize,
    /// Positions in the lists of `Endpoints`.
    method: usize,
    path: usize,
    context: usize,
    gains: bool,
    rule: Option<RuleRef>,
    refused: String,
}

fn flips(before: &Target, after: &Target, callers: &[Caller], endpoints: &Endpoints) -> Vec<Flip> {
    let mut out = Vec::new();
    for (caller, who) in callers.iter().enumerate() {
        for (context, around) in endpoints.contexts.iter().enumerate() {
            let mut question = around.question(who.id.clone());
            for (method, (text, _)) in endpoints.methods.iter().enumerate() {
                question.method.clone_from(text);
                for (path, (text, _)) in endpoints.paths.iter().enumerate() {
                    question.path.clone_from(text);
                    let Some((gains, rule, refused)) = flip(before, after, &question) else { continue };
                    out.push(Flip { caller, method, path, context, gains, rule, refused });
                }
            }
        }
    }
    out
}

fn flip(before: &Target, after: &Target, question: &Question) -> Option<(bool, Option<RuleRef>, String)> {
    match (decide(before, question), decide(after, question)) {
        (Err(why), Ok(rule)) => Some((true, rule, why)),
        (Ok(rule), Err(why)) => Some((false, rule, why)),
        _ => None,
    }
}

fn place(mesh: &Mesh<'_>, rule: Option<&RuleRef>) -> Option<RulePlace> {
    rule.map(|rule| RulePlace::of(mesh, Kind::AuthorizationPolicy, rule))
}

impl Difference {
    /// Changes in one direction.
    pub fn count(&self, gains: bool) -> usize {
        let of = self.changes.iter().filter(|change| change.gains == gains);
        of.flat_map(|change| &change.callers).collect::<BTreeSet<_>>().len()
    }
}
