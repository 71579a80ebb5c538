//! Ambiguous paths that guards let pass, or have a word against.

use std::sync::Arc;

use super::{Moment, Snapshot};
use crate::kind::request_guard::rule::GuardRule;
use crate::kind::request_match::MatchView;
use crate::request::readings::other_readings;

/// One that has a word against ambiguous paths counts more than all that keep them. `rules`: those that match.
pub fn rejecting<'r>(rules: &[&'r Arc<GuardRule>]) -> Option<&'r Arc<GuardRule>> {
    rules.iter().copied().find(|rule| rule.rejects_ambiguous())
}

/// The rule that keeps an ambiguous path in every reading, and these. `None` too where a guard or a limit is about some
/// reading and not about the path as it is forwarded: a spelling must not be a way around it.
pub fn keeping<'r>(
    snapshot: &Snapshot,
    rules: &[&'r Arc<GuardRule>],
    view: &MatchView<'_>,
) -> Option<(&'r Arc<GuardRule>, Vec<String>)> {
    let readings = other_readings(view.path)?;
    let as_forwarded = |path: &str| {
        let other = MatchView { path, ..*view };
        snapshot.guards(other).all(|rule| rules.iter().any(|known| Arc::ptr_eq(known, rule)))
            && Moment::ALL
                .iter()
                .all(|moment| snapshot.limits(other, *moment).all(|l| l.matches.matches(view)))
    };
    if !readings.iter().all(|path| as_forwarded(path)) {
        return None;
    }
    let keeps = |rule: &Arc<GuardRule>, path| rule.keeps(&MatchView { path, ..*view });
    let in_all = |rule: &Arc<GuardRule>| readings.iter().all(|path| keeps(rule, path));
    let rule = rules.iter().copied().find(|rule| rule.keeps(view) && in_all(rule))?;
    Some((rule, readings))
}
