//! Paths that mean more, or less, than they seem to.

use super::Desk;
use super::pattern::Pattern;
use super::selection::Reach;
use super::world::World;
use crate::finding::code;
use crate::finding::problem::Problems;
use crate::kind::VirtualServiceSpec;
use crate::kind::authorization_policy::{Action, Operation};
use crate::kind::jwt_policy::{Access, AccessRuleSpec};
use crate::kind::mesh_config::{AmbiguousPaths, PathNormalization};
use crate::kind::request_guard::GuardRuleSpec;
use crate::kind::virtual_service::StringMatch;

pub(super) fn check(world: &World<'_>, desk: &mut Desk) {
    let confused = world.mesh.ambiguous_paths == AmbiguousPaths::Keep
        || world.mesh.path_normalization == PathNormalization::None;
    for policy in &world.deciding {
        for (i, rule) in policy.spec.rules.iter().enumerate() {
            for (j, operation) in rule.to.iter().enumerate() {
                let path = format!("spec.rules[{i}].to[{j}].operation");
                let problems = desk.about(policy.index);
                let deny = policy.spec.action == Action::Deny;
                opening_prefixes(deny, operation, &path, problems);
                if deny {
                    folders(operation, &path, problems);
                    case(operation, &path, problems);
                }
                if confused || kept_by_guard(world, &Reach::of(policy)) {
                    confusion(deny, operation, &path, problems);
                }
            }
        }
    }
    for policy in &world.access {
        let public = |rule: &&AccessRuleSpec| rule.access == Access::Public;
        for (i, rule) in policy.spec.rules.iter().enumerate().filter(|(_, rule)| public(rule)) {
            for (j, item) in rule.matches.iter().enumerate() {
                let path = format!("spec.rules[{i}].match[{j}].paths");
                words_cut_short(&item.paths, &path, desk.about(policy.index));
            }
        }
    }
    for service in &world.services {
        route_prefixes(service.spec, desk.about(service.index));
    }
}

/// Whether a RequestGuard keeps ambiguous paths for some workload of a policy.
fn kept_by_guard(world: &World<'_>, reach: &Reach<'_>) -> bool {
    let keeps = |rule: &GuardRuleSpec| rule.ambiguous_paths == Some(AmbiguousPaths::Keep);
    world.guards.iter().any(|guard| guard.spec.rules.iter().any(keeps) && Reach::of(guard).meets(reach))
}

/// Where a prefix opens something: ALLOW `paths`, and what a DENY excepts.
fn opening_prefixes(deny: bool, operation: &Operation, path: &str, problems: &mut Problems) {
    let (field, values) = match deny {
        true => ("notPaths", &operation.not_paths),
        false => ("paths", &operation.paths),
    };
    words_cut_short(values, &format!("{path}.{field}"), problems);
}

fn words_cut_short(values: &[String], path: &str, problems: &mut Problems) {
    for (i, value) in values.iter().enumerate() {
        let Some(prefix) = value.strip_suffix('*').filter(|p| !value.contains('{') && ends_in_a_word(p))
        else {
            continue;
        };
        let message = format!("{value:?} also takes {:?}", format!("{prefix}{}", another(prefix)));
        problems.warning(code::PATH_PREFIX, format!("{path}[{i}]"), message);
        problems.help(format!("write {prefix:?} and {:?}", format!("{prefix}/*")));
    }
}

/// Routes by prefix are how Istio's documents are written, so this is for those that look only.
fn route_prefixes(spec: &VirtualServiceSpec, problems: &mut Problems) {
    for (i, route) in spec.http.iter().enumerate() {
        for (j, item) in route.matches.iter().enumerate() {
            let Some(StringMatch::Prefix(prefix)) = item.uri.as_ref() else { continue };
            if !ends_in_a_word(prefix) {
                continue;
            }
            let other = format!("{prefix}{}", another(prefix));
            problems.note(
                code::PATH_PREFIX,
                format!("spec.http[{i}].match[{j}].uri"),
                format!("the prefix {prefix:?} also takes {other:?}"),
            );
            problems
                .help(format!("write two items: exact {prefix:?}, and prefix {:?}", format!("{prefix}/")));
        }
    }
}

/// Whether a longer word may go on where a prefix ends. `/v` is the start of `/v1`, and is written for that.
fn ends_in_a_word(prefix: &str) -> bool {
    let last = prefix.rsplit('/').next().unwrap_or_default();
    last.chars().next_back().is_some_and(|c| c.is_ascii_alphanumeric()) && last != "v"
}

/// A longer word, for the example.
fn another(prefix: &str) -> &'static str {
    if prefix.ends_with("info") { "rmation" } else { "-internal" }
}

/// A DENY of `/admin/*` or `/admin/{**}` alone: many servers answer `/admin` with the same page.
fn folders(operation: &Operation, path: &str, problems: &mut Problems) {
    for (i, value) in operation.paths.iter().enumerate() {
        let below = value.strip_suffix("/*").or_else(|| value.strip_suffix("/{**}"));
        let Some(folder) = below.filter(|f| f.starts_with('/') && !f.contains(['*', '{'])) else { continue };
        let itself = Pattern::exact(folder);
        if operation.paths.iter().any(|other| Pattern::path(other).covers(&itself)) {
            continue;
        }
        let message =
            format!("{folder:?} itself is not among {value:?}, and servers often take both for one");
        problems.warning(code::DENY_WITHOUT_FOLDER, format!("{path}.paths[{i}]"), message);
        problems.help(format!("add {folder:?}"));
    }
}

fn case(operation: &Operation, path: &str, problems: &mut Problems) {
    let lettered = |value: &String| value.bytes().any(|b| b.is_ascii_alphabetic());
    let Some((i, value)) = operation.paths.iter().enumerate().find(|(_, value)| lettered(value)) else {
        return;
    };
    let message = format!("{value:?} is compared with case: {:?} is not denied", value.to_ascii_uppercase());
    problems.note(code::PATH_CASE, format!("{path}.paths[{i}]"), message);
    problems.help("if the service ignores case, allow what is meant instead of denying what is not");
}

/// Whoever finds a second spelling of a path gets past a rule that refuses by its paths.
fn confusion(deny: bool, operation: &Operation, path: &str, problems: &mut Problems) {
    let (field, values) = match deny {
        true => ("paths", &operation.paths),
        false => ("notPaths", &operation.not_paths),
    };
    if values.is_empty() {
        return;
    }
    let message =
        "paths that two servers may read differently are kept here, and such a path is not among these";
    problems.warning(code::PATH_CONFUSION, format!("{path}.{field}"), message);
    problems.help(
        "set ambiguousPaths: REJECT (MeshConfig, RequestGuard) and a normalization, or allow paths instead",
    );
}
