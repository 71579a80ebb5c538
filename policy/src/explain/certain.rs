//! What is decided of a request of which not everything is known: for records, which hold neither headers nor claims.
//! The clauses that decide are asked; where one looks at what is not known, it may hold or not.

use super::{Attribute, ClauseTrace, Role, RuleTrace, TracedRule};

/// What a decision is, whatever is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Allowed,
    Refused,
    /// It depends on what is not known.
    Unknown,
}

/// True, false, or neither for sure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Truth {
    No,
    Unknown,
    Yes,
}

/// Combines rules as an evaluator does: DENY first; then ALLOW, if `has_allow` says that such a policy is there.
pub fn verdict(rules: &[TracedRule], has_allow: bool, is_known: impl Fn(&Attribute) -> bool) -> Verdict {
    let strongest = |role| {
        let of_role = rules.iter().filter(move |rule| rule.role == role);
        of_role.map(|rule| rule_truth(&rule.trace, &is_known)).max().unwrap_or(Truth::No)
    };
    let allowed = if has_allow { strongest(Role::Allow) } else { Truth::Yes };
    match (strongest(Role::Deny), allowed) {
        (Truth::Yes, _) | (_, Truth::No) => Verdict::Refused,
        (Truth::No, Truth::Yes) => Verdict::Allowed,
        _ => Verdict::Unknown,
    }
}

fn rule_truth(trace: &RuleTrace, is_known: &impl Fn(&Attribute) -> bool) -> Truth {
    let all = |clauses: &[ClauseTrace]| {
        clauses.iter().map(|clause| clause_truth(clause, is_known)).min().unwrap_or(Truth::Yes)
    };
    let any = |parts: &[Vec<ClauseTrace>]| match parts.is_empty() {
        true => Truth::Yes,
        false => parts.iter().map(|part| all(part)).max().unwrap_or(Truth::No),
    };
    any(&trace.from).min(any(&trace.to)).min(all(&trace.when))
}

fn clause_truth(clause: &ClauseTrace, is_known: &impl Fn(&Attribute) -> bool) -> Truth {
    match (is_known(&clause.attribute), clause.holds) {
        (false, _) => Truth::Unknown,
        (true, true) => Truth::Yes,
        (true, false) => Truth::No,
    }
}
