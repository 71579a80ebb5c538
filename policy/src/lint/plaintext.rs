//! DENY rules that name callers, where callers may come without a name.

use super::Desk;
use super::selection::Reach;
use super::world::World;
use crate::finding::code;
use crate::kind::authorization_policy::{Action, Condition, Rule, Source};
use crate::kind::peer_authentication::MtlsMode;
use crate::set::ROOT_NAMESPACE;

pub(super) fn check(world: &World<'_>, desk: &mut Desk) {
    for policy in world.deciding.iter().filter(|p| p.spec.action == Action::Deny) {
        if is_strict(world, &Reach::of(policy)) || refuses_plaintext(&policy.spec.rules) {
            continue;
        }
        for (i, rule) in policy.spec.rules.iter().enumerate() {
            let Some(place) = names_callers(rule) else { continue };
            let message = "a caller in plaintext has no identity, so this DENY lets it pass";
            let problems = desk.about(policy.index);
            problems.warning(code::DENY_PLAINTEXT, format!("spec.rules[{i}]{place}"), message);
            problems.help("apply a PeerAuthentication with mtls: {mode: STRICT} for these workloads");
        }
    }
}

/// Where a rule, or an alternative of it, can match only who has an identity.
fn names_callers(rule: &Rule) -> Option<String> {
    let named = |s: &Source| {
        [&s.principals, &s.namespaces, &s.service_accounts, &s.trust_domains]
            .iter()
            .any(|list| !list.is_empty())
    };
    let asked = |c: &Condition| {
        let keys = ["source.principal", "source.namespace", "source.serviceAccount", "source.trustDomain"];
        keys.contains(&c.key.as_str()) && !c.values.is_empty()
    };
    let everybody = |s: &Source| *s == without_certificate();
    let first = rule.from.iter().position(named).filter(|_| !rule.from.iter().any(everybody));
    if let Some(first) = first {
        let all = rule.from.iter().all(named);
        return Some(if all { ".from".into() } else { format!(".from[{first}]") });
    }
    rule.when.iter().position(asked).map(|i| format!(".when[{i}]"))
}

/// `notPrincipals: ["*"]` in a DENY is for everybody without a certificate.
fn refuses_plaintext(rules: &[Rule]) -> bool {
    rules.iter().any(|r| r.to.is_empty() && r.when.is_empty() && r.from.contains(&without_certificate()))
}

fn without_certificate() -> Source {
    Source { not_principals: vec!["*".into()], ..Source::default() }
}

/// Whether every workload of a policy surely takes mutual TLS alone: the mesh or the namespace says so, and nothing
/// that is nearer to a workload says otherwise.
pub(super) fn is_strict(world: &World<'_>, reach: &Reach<'_>) -> bool {
    let whole = |namespace: &str| {
        let wide = world.peers.iter().filter(|p| p.spec.selector.is_empty() && p.namespace() == namespace);
        let modes: Vec<MtlsMode> =
            wide.map(|p| p.spec.mode).filter(|mode| *mode != MtlsMode::Unset).collect();
        // Of several, the strictest one counts.
        modes.iter().find(|mode| **mode == MtlsMode::Strict).or(modes.first()).copied()
    };
    let root = whole(ROOT_NAMESPACE) == Some(MtlsMode::Strict);
    let default = match reach.namespace == ROOT_NAMESPACE {
        true => root,
        false => whole(reach.namespace).map_or(root, |mode| mode == MtlsMode::Strict),
    };
    let loosens = |mode: MtlsMode| matches!(mode, MtlsMode::Permissive | MtlsMode::Disable);
    let meeting = || world.peers.iter().filter(|p| Reach::of(*p).meets(reach));
    let loosened = meeting().any(|p| {
        let nearer = !p.spec.selector.is_empty() || reach.namespace == ROOT_NAMESPACE;
        (nearer && loosens(p.spec.mode)) || p.spec.port_level.values().any(|mode| loosens(*mode))
    });
    let own = meeting().any(|p| {
        !p.spec.selector.is_empty() && p.spec.mode == MtlsMode::Strict && Reach::of(p).includes(reach)
    });
    (default || own) && !loosened
}
