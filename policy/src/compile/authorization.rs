//! All AuthorizationPolicy objects of one workload, by action.

use std::sync::Arc;

use crate::decision::{Grant, Observations, Refusal, RuleRef, Shadow, ShadowEffect, ShadowPolicy};
use crate::finding::Findings;
use crate::finding::problem::Problems;
use crate::kind::authorization_policy::build::build;
use crate::kind::authorization_policy::rule_set::{CompiledRule, RuleSet, named};
use crate::kind::authorization_policy::trace::RuleTrace;
use crate::kind::authorization_policy::{Action, is_dry_run, tcp};
use crate::kind::trust_domains::TrustDomains;
use crate::kind::{AuthorizationPolicySpec, Kind, Meta, Named};
use crate::request::RequestView;

#[derive(Debug)]
pub(crate) struct Authorization {
    enforced: Enforced,
    audit: RuleSet,
    /// Policies with the dry-run annotation, judged as if there were no others.
    dry_run: Enforced,
    /// The dry-run ALLOW policies, for those that none of them would let in.
    dry_run_allows: Arc<str>,
}

/// Names of dry-run ALLOW policies that are told; a label of a metric has an end.
const NAMES_MAX: usize = 8;

/// What a rule does where it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Deny,
    Allow,
    Audit,
    /// As `Deny`, of a policy in dry run: it decides nothing.
    DryRunDeny,
    DryRunAllow,
}

/// One rule and one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracedRule {
    pub role: Role,
    pub name: RuleRef,
    pub trace: RuleTrace,
}

/// Rules that decide.
#[derive(Debug)]
struct Enforced {
    deny: RuleSet,
    allow: RuleSet,
    /// Whether an ALLOW policy is there; one without rules is, and allows nothing.
    has_allow: bool,
}

type Rules = Vec<(RuleRef, CompiledRule)>;

/// Rules as they are gathered.
#[derive(Debug, Default)]
struct Draft {
    enforced: EnforcedDraft,
    audit: Rules,
    dry_run: EnforcedDraft,
    dry_run_allows: String,
}

#[derive(Debug, Default)]
struct EnforcedDraft {
    deny: Rules,
    allow: Rules,
    has_allow: bool,
}

impl Draft {
    fn add(&mut self, meta: &Meta, action: Action, rules: Vec<CompiledRule>) {
        let dry_run = is_dry_run(meta).unwrap_or(false);
        let target = if dry_run { &mut self.dry_run } else { &mut self.enforced };
        let of_action = match action {
            Action::Allow => {
                if dry_run {
                    self.dry_run_allows = with_name(&self.dry_run_allows, meta);
                }
                target.has_allow = true;
                &mut target.allow
            }
            Action::Deny => &mut target.deny,
            Action::Audit => &mut self.audit,
        };
        of_action.extend(named(&meta.namespace, &meta.name, rules));
    }

    fn filed(self) -> Authorization {
        let filed = |rules: Rules| rules.into_iter().collect::<RuleSet>();
        let enforced = |draft: EnforcedDraft| Enforced {
            deny: filed(draft.deny),
            allow: filed(draft.allow),
            has_allow: draft.has_allow,
        };
        Authorization {
            enforced: enforced(self.enforced),
            audit: filed(self.audit),
            dry_run: enforced(self.dry_run),
            dry_run_allows: self.dry_run_allows.into(),
        }
    }
}

impl Authorization {
    pub(crate) fn new<'p>(
        policies: impl IntoIterator<Item = &'p Named<AuthorizationPolicySpec>>,
        domains: &TrustDomains,
        findings: &mut Findings,
    ) -> Self {
        let mut out = Draft::default();
        for Named { meta, spec } in policies {
            let mut problems = Problems::default();
            let rules = build(meta, spec, domains, &mut problems);
            if problems.has_errors() {
                let object = format!("{} {}/{}", Kind::AuthorizationPolicy.name(), meta.namespace, meta.name);
                problems.place(Some(&object), |_| None, findings);
            }
            out.add(meta, spec.action, rules);
        }
        out.filed()
    }

    /// The same policies for connections whose content is not read. Findings are those of [`Self::new`].
    pub(crate) fn for_tcp<'p>(
        policies: impl IntoIterator<Item = &'p Named<AuthorizationPolicySpec>>,
        domains: &TrustDomains,
    ) -> Self {
        let mut out = Draft::default();
        for Named { meta, spec } in policies {
            out.add(meta, spec.action, tcp::build(meta, spec, domains));
        }
        out.filed()
    }

    pub(crate) fn judge(&self, request: &RequestView<'_>) -> Result<Grant, Refusal> {
        self.enforced.judge(request)
    }

    pub(crate) fn has_allow(&self) -> bool {
        self.enforced.has_allow
    }

    pub(crate) fn has_observers(&self) -> bool {
        !self.audit.is_empty() || self.dry_run.is_present()
    }

    pub(crate) fn observe(&self, request: &RequestView<'_>) -> Observations {
        let audited = self.audit.matching(request).cloned().collect();
        if !self.dry_run.is_present() {
            return Observations { audited, ..Observations::default() };
        }
        let alone = self.dry_run.judge(request);
        let shadow = self.shadow(&self.enforced.judge(request), &alone);
        Observations { audited, dry_run: Some(alone), shadow }
    }

    /// What the dry-run policies would turn round: `now` is what is decided, `alone` what they alone would.
    fn shadow(&self, now: &Result<Grant, Refusal>, alone: &Result<Grant, Refusal>) -> Option<Shadow> {
        let (effect, by) = match (now, alone) {
            (Ok(_), Err(Refusal::Denied(rule))) => (ShadowEffect::DeniedIfAdded, rule.into()),
            (Ok(granted), Err(Refusal::NoAllowMatched)) => {
                // Beside an ALLOW rule that matches, another that does not is nothing.
                let effect = match granted {
                    Grant::NoPolicy => ShadowEffect::DeniedIfAdded,
                    Grant::Rule(_) | Grant::KnownDestination => ShadowEffect::DeniedIfAlone,
                };
                (effect, ShadowPolicy::NoneOf(Arc::clone(&self.dry_run_allows)))
            }
            (Err(Refusal::NoAllowMatched), Ok(Grant::Rule(rule))) => {
                (ShadowEffect::AllowedIfAdded, rule.into())
            }
            _ => return None,
        };
        Some(Shadow { effect, by })
    }

    pub(crate) fn trace(&self, request: &RequestView<'_>) -> Vec<TracedRule> {
        let sets = [
            (Role::Deny, &self.enforced.deny),
            (Role::Allow, &self.enforced.allow),
            (Role::Audit, &self.audit),
            (Role::DryRunDeny, &self.dry_run.deny),
            (Role::DryRunAllow, &self.dry_run.allow),
        ];
        let traced = |role, (name, rule): (&RuleRef, &CompiledRule)| TracedRule {
            role,
            name: name.clone(),
            trace: RuleTrace::new(rule, request),
        };
        sets.into_iter().flat_map(|(role, set)| set.named().map(move |named| traced(role, named))).collect()
    }

    /// Whether at least one request of this caller could be allowed, judged by its identity alone.
    pub(crate) fn could_ever_allow(&self, caller: &RequestView<'_>) -> bool {
        let Enforced { deny, allow, has_allow } = &self.enforced;
        if deny.rules().any(|rule| rule.always_matches_caller(caller)) {
            return false;
        }
        !has_allow || allow.rules().any(|rule| rule.could_match_caller(caller))
    }
}

/// One more name in a list that has an end.
fn with_name(names: &str, meta: &Meta) -> String {
    let Meta { namespace, name, .. } = meta;
    match names.split(',').count() {
        _ if names.is_empty() => format!("{namespace}/{name}"),
        n if n < NAMES_MAX => format!("{names},{namespace}/{name}"),
        n if n == NAMES_MAX => format!("{names},..."),
        _ => names.to_owned(),
    }
}

impl Enforced {
    /// DENY first; then ALLOW, if any ALLOW policy is there at all.
    fn judge(&self, request: &RequestView<'_>) -> Result<Grant, Refusal> {
        if let Some(rule) = self.deny.first_match(request) {
            return Err(Refusal::Denied(rule.clone()));
        }
        if !self.has_allow {
            return Ok(Grant::NoPolicy);
        }
        match self.allow.first_match(request) {
            Some(rule) => Ok(Grant::Rule(rule.clone())),
            None => Err(Refusal::NoAllowMatched),
        }
    }

    fn is_present(&self) -> bool {
        self.has_allow || !self.deny.is_empty()
    }
}
