//! Documents whose indentation may say something else than their author.

use super::Desk;
use super::world::World;
use crate::finding::code;
use crate::finding::problem::Problems;
use crate::kind::authorization_policy::{Action, AuthorizationPolicySpec, Operation, Rule};

pub(super) fn check(world: &World<'_>, desk: &mut Desk) {
    for policy in &world.deciding {
        let problems = desk.about(policy.index);
        split_rules(policy.spec, problems);
        for (i, rule) in policy.spec.rules.iter().enumerate() {
            split_operations(rule, &format!("spec.rules[{i}].to"), problems);
            if policy.spec.action == Action::Allow {
                hosts(rule, &format!("spec.rules[{i}].to"), problems);
            }
        }
    }
}

/// `- from: ...` and then `- to: ...`: two rules, and so an OR. One dash less is an AND.
fn split_rules(spec: &AuthorizationPolicySpec, problems: &mut Problems) {
    let only_from = |r: &Rule| !r.from.is_empty() && r.to.is_empty() && r.when.is_empty();
    let no_from = |r: &Rule| r.from.is_empty() && (!r.to.is_empty() || !r.when.is_empty());
    for (i, (first, second)) in spec.rules.iter().zip(spec.rules.iter().skip(1)).enumerate() {
        if !(only_from(first) && no_from(second)) {
            continue;
        }
        let message = "this is a rule of its own, for every caller; the one before it is for every request";
        problems.note(code::SPLIT_RULE, format!("spec.rules[{}]", i + 1), message);
        problems.help("to mean both at once, write from and to in one item (no dash before to)");
    }
}

/// `- operation: {methods}` and then `- operation: {paths}`.
fn split_operations(rule: &Rule, path: &str, problems: &mut Problems) {
    let only_methods = |o: &Operation| {
        !o.methods.is_empty() && Operation { methods: Vec::new(), ..o.clone() } == Operation::default()
    };
    let only_paths = |o: &Operation| {
        !o.paths.is_empty() && Operation { paths: Vec::new(), ..o.clone() } == Operation::default()
    };
    let (Some(methods), Some(paths)) =
        (rule.to.iter().position(only_methods), rule.to.iter().position(only_paths))
    else {
        return;
    };
    let later = methods.max(paths);
    let message = "one item is for every path with these methods, another for every method on these paths";
    problems.warning(code::SPLIT_RULE, format!("{path}[{later}]"), message);
    problems.help("to mean both at once, write methods and paths in one operation");
}

/// `h` does not allow `h:8443`, which clients send for a port that is not the default.
fn hosts(rule: &Rule, path: &str, problems: &mut Problems) {
    for (j, operation) in rule.to.iter().enumerate() {
        let ported = |host: &String| {
            operation
                .hosts
                .iter()
                .any(|o| o.strip_prefix(host.as_str()).is_some_and(|rest| rest.starts_with(':')))
        };
        let bare = |host: &&String| !host.contains(':') && !host.ends_with('*') && !ported(host);
        let Some(host) = operation.hosts.iter().find(bare) else { continue };
        let message =
            format!("{host:?} is not \"{host}:8443\": a request that names a port is not allowed by it");
        problems.note(code::HOST_WITHOUT_PORT, format!("{path}[{j}].operation.hosts"), message);
        problems.help(format!("add \"{host}:*\" if clients name a port"));
    }
}
