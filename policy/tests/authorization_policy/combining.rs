//! How policies stand to each other: what Istio decides, surprises included.

use palisade_policy::decision::{Decision, Grant, Refusal, ShadowEffect};

use super::support::{Ask, parse_ok, snapshot, workload};
use super::{ledger, one};

fn policy(name: &str, namespace: &str, annotations: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
         metadata: {{name: {name}, namespace: {namespace}, annotations: {{{annotations}}}}}\nspec: {spec}\n"
    )
}

fn grant(policies: &str) -> Result<Grant, Refusal> {
    match Ask::new().of(&ledger(policies)) {
        Decision::Allow { grant, .. } => Ok(grant),
        Decision::Refuse { refusal } => Err(refusal),
    }
}

const ALLOW_ALL: &str = "{rules: [{}]}";
const DENY_ALL: &str = "{action: DENY, rules: [{}]}";
const DRY: &str = "istio.io/dry-run: 'true'";

#[test]
fn without_a_policy_everything_is_allowed() {
    assert_eq!(grant(""), Ok(Grant::NoPolicy));
    assert_eq!(grant(&policy("a", "other", "", "{}")), Ok(Grant::NoPolicy));
    assert_eq!(grant(&one("DENY", "{to: [{operation: {methods: [PUT]}}]}")), Ok(Grant::NoPolicy));
}

#[test]
fn an_empty_spec_allows_nothing_and_an_empty_rule_matches_everything() {
    assert_eq!(grant(&policy("a", "bank", "", "{}")), Err(Refusal::NoAllowMatched));
    assert!(matches!(grant(&policy("a", "bank", "", ALLOW_ALL)), Ok(Grant::Rule(_))));
    assert!(matches!(grant(&policy("a", "bank", "", DENY_ALL)), Err(Refusal::Denied(_))));
}

#[test]
fn a_deny_wins_over_every_allow_and_names_itself() {
    let both = policy("yes", "bank", "", ALLOW_ALL) + &policy("no", "palisade-system", "", DENY_ALL);
    let Err(Refusal::Denied(rule)) = grant(&both) else { panic!("allowed") };
    assert_eq!(rule.envoy_name(), "ns[palisade-system]-policy[no]-rule[0]");
    assert_eq!(
        Refusal::Denied(rule).response_code_details(),
        "rbac_access_denied_matched_policy[ns[palisade-system]-policy[no]-rule[0]]"
    );
    assert_eq!(Refusal::NoAllowMatched.response_code_details(), "rbac_access_denied_matched_policy[none]");
}

#[test]
fn the_deciding_rule_is_named_by_its_index() {
    let rules = "{rules: [{to: [{operation: {methods: [PUT]}}]}, {from: [{source: {principals: [corp.example/ns/bank/sa/payments]}}]}]}";
    let Ok(Grant::Rule(rule)) = grant(&policy("a", "bank", "", rules)) else { panic!("refused") };
    assert_eq!((rule.rule, &*rule.policy), (1, "a"));
}

#[test]
fn root_policies_hold_everywhere_and_add_to_local_ones() {
    let root = policy("default-deny", "palisade-system", "", "{}");
    assert_eq!(grant(&root), Err(Refusal::NoAllowMatched));
    assert!(grant(&(root + &policy("a", "bank", "", ALLOW_ALL))).is_ok());
}

#[test]
fn a_selector_needs_all_its_labels() {
    let with =
        |labels: &str| policy("a", "bank", "", &format!("{{selector: {{matchLabels: {{{labels}}}}}}}"));
    assert_eq!(grant(&with("app: ledger")), Err(Refusal::NoAllowMatched));
    assert_eq!(grant(&with("app: payments")), Ok(Grant::NoPolicy));
    assert_eq!(grant(&with("app: ledger, version: v2")), Ok(Grant::NoPolicy));
}

#[test]
fn audit_and_dry_run_decide_nothing_and_are_reported() {
    let audit = policy("watch", "bank", "", "{action: AUDIT, rules: [{}]}");
    let dry_deny = policy("dry", "bank", DRY, DENY_ALL);
    let dry_allow = policy("dry", "bank", DRY, "{}");
    for text in [&audit, &dry_deny, &dry_allow] {
        assert_eq!(grant(text), Ok(Grant::NoPolicy));
    }
    let observed = |text: &str| Ask::new().with_view(|view| ledger(text).observe(view));
    assert_eq!(observed(&audit).audited[0].envoy_name(), "ns[bank]-policy[watch]-rule[0]");
    assert_eq!(observed(&audit).dry_run, None);
    assert!(matches!(observed(&dry_deny).dry_run, Some(Err(Refusal::Denied(_)))));
    assert_eq!(observed(&dry_allow).dry_run, Some(Err(Refusal::NoAllowMatched)));
    assert!(!ledger(&policy("a", "bank", "", "{}")).has_observers());
    assert_eq!(grant(&policy("a", "bank", "istio.io/dry-run: 'false'", "{}")), Err(Refusal::NoAllowMatched));
}

/// What a dry run foretells is what becomes of the same policies without the annotation, in every combination.
#[test]
fn a_dry_run_foretells_what_enforcing_it_would_turn_round() {
    let nothing = "{rules: [{to: [{operation: {methods: [PUT]}}]}]}";
    let deny_nothing = "{action: DENY, rules: [{to: [{operation: {methods: [PUT]}}]}]}";
    let specs = &[None, Some(ALLOW_ALL), Some(nothing), Some(DENY_ALL), Some(deny_nothing)];
    let mut turned = Vec::new();
    for (now, dry, more) in specs
        .iter()
        .flat_map(|now| specs.iter().flat_map(move |dry| specs.iter().map(move |more| (now, dry, more))))
    {
        let set = |annotation: &str| {
            let of = |name: &str, annotation: &str, spec: &Option<&str>| {
                spec.map(|spec| policy(name, "bank", annotation, spec)).unwrap_or_default()
            };
            of("now", "", now) + &of("dry", annotation, dry) + &of("more", annotation, more)
        };
        let shadow = Ask::new().with_view(|view| ledger(&set(DRY)).observe(view)).shadow;
        let (before, after) = (grant(&set(DRY)).is_ok(), grant(&set("")).is_ok());
        let foretold = match shadow.as_ref().map(|shadow| shadow.effect) {
            Some(ShadowEffect::DeniedIfAdded) => (true, false),
            Some(ShadowEffect::AllowedIfAdded) => (false, true),
            Some(ShadowEffect::DeniedIfAlone) | None => (before, before),
        };
        assert_eq!(foretold, (before, after), "{now:?} {dry:?} {more:?}: {shadow:?}");
        turned.extend(shadow.map(|shadow| shadow.effect));
    }
    for effect in [ShadowEffect::DeniedIfAdded, ShadowEffect::DeniedIfAlone, ShadowEffect::AllowedIfAdded] {
        assert!(turned.contains(&effect), "{effect:?} never came");
    }
}

#[test]
fn a_dry_run_names_the_policies_that_would_turn_a_decision() {
    let shadow = |text: &str| {
        let shadow = Ask::new().with_view(|view| ledger(text).observe(view)).shadow.unwrap();
        (shadow.effect.code(), shadow.by.to_string(), shadow.by.reason(shadow.effect))
    };
    let dry = |name: &str, spec: &str| policy(name, "bank", DRY, spec);
    assert_eq!(shadow(&dry("no", DENY_ALL)), ("denied_if_added", "bank/no".to_owned(), "denied_by_rule"));
    let none = shadow(&(dry("a", "{}") + &dry("b", "{}")));
    assert_eq!(none, ("denied_if_added", "bank/a,bank/b".to_owned(), "no_allow_matched"));
    let beside = shadow(&(policy("now", "bank", "", ALLOW_ALL) + &dry("a", "{}")));
    assert_eq!(beside, ("denied_if_alone", "bank/a".to_owned(), "no_allow_matched"));
    let more = shadow(&(policy("now", "bank", "", "{}") + &dry("a", ALLOW_ALL)));
    assert_eq!(more, ("allowed_if_added", "bank/a".to_owned(), "rule"));
    let many: String = (0..20).map(|n| dry(&format!("p{n:02}"), "{}")).collect();
    assert_eq!(shadow(&many).1.split(',').next_back(), Some("..."));
    assert_eq!(shadow(&many).1.split(',').count(), 9);
}

#[test]
fn plaintext_is_refused_before_any_policy_where_it_is_strict() {
    let strict = "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
                  metadata: {name: s, namespace: bank}\nspec: {mtls: {mode: STRICT}}\n";
    let (set, _) = parse_ok(&(policy("a", "bank", "", ALLOW_ALL) + strict));
    let strict = snapshot(&set, &[], &workload("bank", "ledger"));
    assert!(Ask::new().allowed(&strict));
    let Decision::Refuse { refusal } = Ask::new().plaintext().of(&strict) else { panic!("allowed") };
    assert_eq!(refusal, Refusal::PlaintextRefused);
}
