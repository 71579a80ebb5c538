//! What was decided, by which rule, and why.

use std::sync::Arc;

/// Leave to forward one request. Only the `authorize` functions of a snapshot make one, and the forwarding code
/// demands one.
#[derive(Debug)]
#[must_use = "a permit that is dropped forwards nothing"]
pub struct Permit(());

impl Permit {
    pub(crate) fn new() -> Self {
        Self(())
    }
}

/// A rule of a policy, by the names operators know.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RuleRef {
    pub namespace: Arc<str>,
    pub policy: Arc<str>,
    /// Index in the policy's `rules`, from 0.
    pub rule: usize,
}

/// Why a request was allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grant {
    /// No ALLOW policy selects the workload (Istio's allow-by-default).
    NoPolicy,
    Rule(RuleRef),
    /// Outbound: the destination is known to this workload.
    KnownDestination,
}

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A DENY rule matched.
    Denied(RuleRef),
    /// ALLOW policies select the workload and none matched.
    NoAllowMatched,
    /// The workload takes no plaintext and the caller brought no certificate.
    PlaintextRefused,
    /// Outbound: the destination is not of this snapshot.
    UnknownDestination,
}

/// What policies noticed that decide nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observations {
    /// AUDIT rules that match.
    pub audited: Vec<RuleRef>,
    /// What the dry-run policies alone would have decided; `None` where there are none.
    pub dry_run: Option<Result<Grant, Refusal>>,
    /// What would become otherwise if they were enforced.
    pub shadow: Option<Shadow>,
}

/// A decision that the dry-run policies would turn round.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Shadow {
    pub effect: ShadowEffect,
    pub by: ShadowPolicy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ShadowEffect {
    /// Let in now; refused once they are enforced beside the policies in force.
    DeniedIfAdded,
    /// Let in now, and still then; refused if they were in the place of the policies in force.
    DeniedIfAlone,
    /// Refused now for want of an ALLOW rule; let in once they are enforced.
    AllowedIfAdded,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ShadowPolicy {
    /// A rule of this one matches.
    One { namespace: Arc<str>, policy: Arc<str> },
    /// No rule of any of these matches: `namespace/name`, separated by commas.
    NoneOf(Arc<str>),
}

impl ShadowEffect {
    /// As in records and metrics, stable.
    pub fn code(self) -> &'static str {
        match self {
            Self::DeniedIfAdded => "denied_if_added",
            Self::DeniedIfAlone => "denied_if_alone",
            Self::AllowedIfAdded => "allowed_if_added",
        }
    }
}

impl ShadowPolicy {
    /// The reason that a request would be refused or let in for.
    pub fn reason(&self, effect: ShadowEffect) -> &'static str {
        match (self, effect) {
            (Self::NoneOf(_), _) => "no_allow_matched",
            (Self::One { .. }, ShadowEffect::AllowedIfAdded) => "rule",
            (Self::One { .. }, _) => "denied_by_rule",
        }
    }
}

impl std::fmt::Display for ShadowPolicy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::One { namespace, policy } => write!(f, "{namespace}/{policy}"),
            Self::NoneOf(all) => f.write_str(all),
        }
    }
}

impl From<&RuleRef> for ShadowPolicy {
    fn from(rule: &RuleRef) -> Self {
        Self::One { namespace: Arc::clone(&rule.namespace), policy: Arc::clone(&rule.policy) }
    }
}

/// The outcome of `authorize`.
#[derive(Debug)]
pub enum Decision {
    Allow { permit: Permit, grant: Grant },
    Refuse { refusal: Refusal },
}

impl RuleRef {
    /// Envoy's spelling in `response_code_details`: `ns[x]-policy[y]-rule[n]`.
    pub fn envoy_name(&self) -> String {
        format!("ns[{}]-policy[{}]-rule[{}]", self.namespace, self.policy, self.rule)
    }
}

impl Refusal {
    /// Machine-readable reason, stable.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Denied(_) => "denied_by_rule",
            Self::NoAllowMatched => "no_allow_matched",
            Self::PlaintextRefused => "plaintext_refused",
            Self::UnknownDestination => "unknown_destination",
        }
    }

    /// Envoy's `response_code_details`.
    pub fn response_code_details(&self) -> String {
        match self {
            Self::Denied(rule) => format!("rbac_access_denied_matched_policy[{}]", rule.envoy_name()),
            Self::NoAllowMatched => "rbac_access_denied_matched_policy[none]".into(),
            Self::PlaintextRefused => "plaintext_refused".into(),
            Self::UnknownDestination => "unknown_destination".into(),
        }
    }
}
