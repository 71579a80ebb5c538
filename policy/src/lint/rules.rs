//! Rules of AuthorizationPolicy that change no decision.

use super::Desk;
use super::rule_cover::Named;
use super::selection::Reach;
use super::world::{Of, World};
use crate::finding::code;
use crate::kind::AuthorizationPolicySpec;
use crate::kind::authorization_policy::Action;

/// Every rule is compared with all others; beyond so many comparisons, those that are left over are not made.
const COMPARISONS_MAX: usize = 2_000_000;

struct Entry<'o> {
    policy: Of<'o, AuthorizationPolicySpec>,
    number: usize,
    named: Named<'o>,
}

pub(super) fn check(world: &World<'_>, desk: &mut Desk) {
    let rules = |action: Action| -> Vec<Entry<'_>> {
        let policies = world.deciding.iter().filter(|p| p.spec.action == action);
        let entries = policies.flat_map(|policy| {
            let namespace = policy.namespace();
            let entry =
                move |(number, rule)| Entry { policy: *policy, number, named: Named { rule, namespace } };
            policy.spec.rules.iter().enumerate().map(entry)
        });
        entries.collect()
    };
    let (allow, deny) = (rules(Action::Allow), rules(Action::Deny));
    let mut left = COMPARISONS_MAX;
    for (i, rule) in allow.iter().enumerate() {
        if let Some(denied) = deny.iter().find(|deny| deny.does_all_of(rule, &mut left)) {
            let message = format!("{} denies all that this rule allows", denied.title());
            let problems = desk.about(rule.policy.index);
            problems.warning(code::RULE_DENIED, rule.path(), message);
            problems.help("a DENY is asked first: narrow it, or take the rule out");
        } else {
            covered(&allow, i, rule, &mut left, desk);
        }
    }
    for (i, rule) in deny.iter().enumerate() {
        covered(&deny, i, rule, &mut left, desk);
    }
}

/// Of two rules that do the same, the later one is the one too many.
fn covered(rules: &[Entry<'_>], at: usize, rule: &Entry<'_>, left: &mut usize, desk: &mut Desk) {
    let wider = rules.iter().enumerate().find(|(other, wide)| {
        *other != at && wide.does_all_of(rule, left) && (*other < at || !rule.does_all_of(wide, left))
    });
    let Some((_, wide)) = wider else { return };
    let problems = desk.about(rule.policy.index);
    let message = format!("{} does all that this rule does", wide.title());
    problems.warning(code::RULE_COVERED, rule.path(), message);
    problems.help("take the rule out, or narrow the other one");
}

impl Entry<'_> {
    fn path(&self) -> String {
        format!("spec.rules[{}]", self.number)
    }

    fn title(&self) -> String {
        format!("rules[{}] of {}", self.number, self.policy.named())
    }

    /// For every workload that `other` is for, and every request that it matches.
    fn does_all_of(&self, other: &Self, left: &mut usize) -> bool {
        let Some(rest) = left.checked_sub(1) else { return false };
        *left = rest;
        Reach::of(&self.policy).includes(&Reach::of(&other.policy)) && self.named.covers(&other.named)
    }
}
