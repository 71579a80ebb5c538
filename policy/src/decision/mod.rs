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
