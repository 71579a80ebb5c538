//! How a value of `serviceAccounts` matches: `namespace/name`, or `name` in the policy's own namespace.

use std::fmt;

use palisade_identity::{Namespace, ServiceAccount, SpiffeId};

use super::texts::Form;

/// Compared part by part and whole: no pattern, no regular expression (CVE-2026-39350).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AccountMatch {
    namespace: Namespace,
    service_account: ServiceAccount,
}

impl AccountMatch {
    pub(super) fn new(text: &str, own_namespace: &str) -> Option<Self> {
        let (namespace, name) = text.split_once('/').unwrap_or((own_namespace, text));
        Some(Self {
            namespace: Namespace::parse(namespace).ok()?,
            service_account: ServiceAccount::parse(name).ok()?,
        })
    }

    /// How a principal of this account ends.
    pub(super) fn form(&self) -> Form {
        let end = format!("/ns/{}/sa/{}", self.namespace.as_str(), self.service_account.as_str());
        Form::End(end.into_bytes().into())
    }

    pub(super) fn matches(&self, peer: &SpiffeId) -> bool {
        peer.workload()
            .is_some_and(|w| w.namespace == self.namespace && w.service_account == self.service_account)
    }
}

impl fmt::Display for AccountMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace.as_str(), self.service_account.as_str())
    }
}
