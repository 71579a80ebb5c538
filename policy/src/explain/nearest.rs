//! What rules asked for, and which of those that did not match lack least.

use super::{Asked, Mesh, NearMiss, Role, RulePlace, TracedRule};
use crate::kind::Kind;
use crate::kind::authorization_policy::trace::{ClauseTrace, RuleTrace};

/// Near misses that are told.
const SHOWN_MAX: usize = 2;

/// What a rule asks of a request, by the alternatives that come nearest.
pub(super) fn asked(trace: &RuleTrace) -> Vec<Asked> {
    trace.nearest().map(Asked::from).collect()
}

/// The rules of a role that lack least. Among equals those that are about this caller come first, then those that were
/// written first. The nearest that names the caller is always among them, if there is one.
pub(super) fn nearest(mesh: &Mesh<'_>, rules: &[TracedRule], role: Role) -> Vec<NearMiss> {
    let of_role = rules.iter().filter(|rule| rule.role == role && !rule.trace.matches());
    let mut all: Vec<(&TracedRule, Vec<&ClauseTrace>)> =
        of_role.map(|rule| (rule, rule.trace.lacks())).collect();
    let strangers = |lacks: &[&ClauseTrace]| lacks.iter().filter(|lack| lack.attribute.is_caller()).count();
    all.sort_by_key(|(_, lacks)| (lacks.len(), strangers(lacks)));
    let own = all.iter().position(|(_, lacks)| strangers(lacks) == 0);
    let shown = all.iter().enumerate().filter(|(index, _)| *index == 0 || Some(*index) == own);
    let miss = |(rule, lacks): &(&TracedRule, Vec<&ClauseTrace>)| NearMiss {
        rule: RulePlace::of(mesh, Kind::AuthorizationPolicy, &rule.name),
        lacks: lacks.iter().map(|lack| Asked::from(*lack)).collect(),
    };
    shown.map(|(_, found)| miss(found)).take(SHOWN_MAX).collect()
}

impl From<&ClauseTrace> for Asked {
    fn from(clause: &ClauseTrace) -> Self {
        Self {
            field: clause.attribute.name(),
            wanted: clause.wanted.clone(),
            got: clause.got.clone(),
            holds: clause.holds,
        }
    }
}
