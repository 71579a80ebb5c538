//! Writes that a scope for reading is enough for.

use super::Desk;
use super::pattern::Pattern;
use super::world::World;
use crate::finding::code;
use crate::kind::authorization_policy::{Action, Condition, Rule};

const WRITES: [&str; 4] = ["POST", "PUT", "PATCH", "DELETE"];
const CLAIMS: [&str; 6] = ["scope", "scp", "scopes", "permission", "permissions", "roles"];
/// Words of a scope that is for looking only, and of one that is for more.
const READING: [&str; 8] = ["read", "reads", "reader", "readonly", "view", "viewer", "list", "ro"];
const WRITING: [&str; 12] = [
    "write",
    "writer",
    "rw",
    "readwrite",
    "admin",
    "manage",
    "create",
    "update",
    "delete",
    "edit",
    "full",
    "all",
];

pub(super) fn check(world: &World<'_>, desk: &mut Desk) {
    for policy in world.deciding.iter().filter(|p| p.spec.action == Action::Allow) {
        for (i, rule) in policy.spec.rules.iter().enumerate() {
            let Some(scope) = reading_scope(rule) else { continue };
            for (path, method) in writes(rule) {
                let message = format!("the scope {scope:?} is enough for {method}");
                let problems = desk.about(policy.index);
                problems.warning(code::WRITE_BY_READ_SCOPE, format!("spec.rules[{i}]{path}"), message);
                problems.help(
                    "write methods: [GET, HEAD] here, and a rule with a scope of its own for the others",
                );
            }
        }
    }
}

/// A scope for reading that is all a rule asks for. Values are alternatives; conditions must all hold.
fn reading_scope(rule: &Rule) -> Option<&str> {
    let of_scope = |c: &&Condition| {
        let name = c.key.strip_prefix("request.auth.claims[").and_then(|rest| rest.strip_suffix(']'));
        name.is_some_and(|name| CLAIMS.contains(&name)) && !c.values.is_empty()
    };
    let mut found = None;
    for condition in rule.when.iter().filter(of_scope) {
        found = Some(condition.values.iter().find(|value| is_for_reading(value))?);
    }
    found.map(String::as_str)
}

pub(super) fn is_for_reading(scope: &str) -> bool {
    let lower = scope.to_ascii_lowercase();
    let words = || lower.split(|c: char| !c.is_ascii_alphanumeric());
    words().any(|word| READING.contains(&word)) && !words().any(|word| WRITING.contains(&word))
}

/// The alternatives of a rule that let a write through, with the first method that they do.
fn writes(rule: &Rule) -> Vec<(String, &'static str)> {
    if rule.to.is_empty() {
        return vec![(String::new(), "every method")];
    }
    let mut out = Vec::new();
    for (j, operation) in rule.to.iter().enumerate() {
        let path = format!(".to[{j}].operation");
        if operation.methods.is_empty() && operation.not_methods.is_empty() {
            out.push((path, "every method"));
        } else if let Some(method) = first_write(&operation.methods, &operation.not_methods) {
            out.push((format!("{path}.methods"), method));
        }
    }
    out
}

pub(super) fn first_write(methods: &[String], not_methods: &[String]) -> Option<&'static str> {
    let takes = |list: &[String], method: &str| list.iter().any(|m| Pattern::text(m).matches(method));
    WRITES
        .into_iter()
        .find(|method| (methods.is_empty() || takes(methods, method)) && !takes(not_methods, method))
}
