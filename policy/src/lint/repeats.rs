//! RetryPolicies that let more be repeated than they seem to.

use super::Desk;
use super::world::World;
use crate::finding::code;
use crate::kind::request_match::MatchItem;
use crate::kind::retry_policy::Because;

/// Whose second time is another payment, as a rule (RFC 9110 section 9.2.2, RFC 5789 section 2).
const UNSAFE: [&str; 2] = ["POST", "PATCH"];

pub(super) fn check(world: &World<'_>, desk: &mut Desk) {
    for policy in &world.repeats {
        for (i, rule) in policy.spec.rules.iter().enumerate() {
            let all = [MatchItem::default()];
            let items = if rule.matches.is_empty() { &all[..] } else { &rule.matches };
            let Some(method) = items.iter().find_map(unsafe_method) else { continue };
            if rule.because == Because::Idempotent {
                let message = format!("{method} may be sent twice to whatever this matches");
                let problems = desk.about(policy.index);
                problems.warning(code::UNSAFE_IDEMPOTENT, format!("spec.rules[{i}].idempotent"), message);
                problems.help(
                    "name an idempotencyKey instead, or the gRPC methods that only read, each by its whole path",
                );
            }
        }
    }
}

/// A method that changes something, unless the item is about single gRPC methods: all of these are POST.
fn unsafe_method(item: &MatchItem) -> Option<&'static str> {
    if !item.paths.is_empty() && item.paths.iter().all(|path| is_grpc_method(path)) {
        return None;
    }
    let named = |method: &&str| item.methods.iter().any(|pattern| may_be(pattern, method));
    UNSAFE.into_iter().find(|method| item.methods.is_empty() || named(method))
}

/// `*` stands at the begin or the end of a text, or alone.
fn may_be(pattern: &str, method: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(end), _) => method.ends_with(end),
        (None, Some(begin)) => method.starts_with(begin),
        (None, None) => pattern == method,
    }
}

/// `/package.Service/Method`, without patterns.
fn is_grpc_method(path: &str) -> bool {
    let parts = path.strip_prefix('/').and_then(|rest| rest.split_once('/'));
    !path.contains(['*', '{'])
        && parts.is_some_and(|(service, method)| {
            service.contains('.') && !method.is_empty() && !method.contains(['/', '.'])
        })
}
