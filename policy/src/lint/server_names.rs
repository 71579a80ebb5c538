//! Conditions on the name asked for in the TLS handshake, which sidecars of the mesh do not send.

use super::Desk;
use super::selection::Reach;
use super::world::World;
use crate::finding::code;
use crate::kind::authorization_policy::Action;

pub(super) fn check(world: &World<'_>, desk: &mut Desk) {
    for policy in &world.deciding {
        // Clients of an edge do send one.
        let is_at_edge = world.gateways.iter().any(|gateway| Reach::of(policy).meets(&Reach::of(gateway)));
        if is_at_edge {
            continue;
        }
        for (i, rule) in policy.spec.rules.iter().enumerate() {
            for (j, condition) in rule.when.iter().enumerate() {
                if condition.key != "connection.sni" {
                    continue;
                }
                let outcome = match (condition.values.is_empty(), policy.spec.action) {
                    (true, _) => "the condition holds for all of them",
                    (false, Action::Allow) => "the rule allows none of them",
                    (false, Action::Deny | Action::Audit) => "the rule stops none of them",
                };
                let message = format!("callers of the mesh send no server name: {outcome}");
                let problems = desk.about(policy.index);
                problems.warning(code::NO_SERVER_NAME, format!("spec.rules[{i}].when[{j}].key"), message);
                problems.help("name the callers by principals, and the service by the policy's selector");
            }
        }
    }
}
