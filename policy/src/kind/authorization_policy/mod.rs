//! AuthorizationPolicy, security.istio.io/v1: who may do what.
//!
//! `read` makes the spec from YAML, `build` makes the compiled form from a spec (whether it came from YAML or by
//! wire) and reports everything that does not fit, `tcp` makes the form for connections whose content is not read,
//! `clause` is what one compiled field asks of a request. `rule_set` holds the rules of one action; `needs` says what a rule
//! cannot match without, and `index` finds by that the few rules that are worth trying.

pub(crate) mod build;
pub(super) mod clause;
mod header;
pub(super) mod host;
mod index;
mod namespace;
mod needs;
pub(crate) mod path;
pub(crate) mod read;
pub(crate) mod rule_set;
mod source_account;
pub(crate) mod tcp;
pub(crate) mod text;
mod texts;
mod token;
pub mod trace;

use super::{Meta, Selector};

/// A policy with this annotation set to a true value decides nothing; what it would have decided is reported.
pub const DRY_RUN_ANNOTATION: &str = "istio.io/dry-run";

/// Whether the annotation asks for a dry run. `Err`: it is neither true nor false, as Go's ParseBool reads it.
pub fn is_dry_run(meta: &Meta) -> Result<bool, &str> {
    match meta.annotations.get(DRY_RUN_ANNOTATION).map(String::as_str) {
        None | Some("0" | "f" | "F" | "false" | "False" | "FALSE") => Ok(false),
        Some("1" | "t" | "T" | "true" | "True" | "TRUE") => Ok(true),
        Some(other) => Err(other),
    }
}

/// What a matching policy does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Action {
    #[default]
    Allow,
    Deny,
    Audit,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthorizationPolicySpec {
    pub selector: Selector,
    pub action: Action,
    /// Rules are alternatives. Empty: the policy never matches (Istio's `spec: {}`).
    pub rules: Vec<Rule>,
}

/// `from` AND `to` AND every `when`. An absent part matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    pub from: Vec<Source>,
    pub to: Vec<Operation>,
    pub when: Vec<Condition>,
}

/// Fields AND; the values of one field OR.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    pub principals: Vec<String>,
    pub not_principals: Vec<String>,
    pub request_principals: Vec<String>,
    pub not_request_principals: Vec<String>,
    pub namespaces: Vec<String>,
    pub not_namespaces: Vec<String>,
    pub service_accounts: Vec<String>,
    pub not_service_accounts: Vec<String>,
    pub trust_domains: Vec<String>,
    pub not_trust_domains: Vec<String>,
    pub ip_blocks: Vec<String>,
    pub not_ip_blocks: Vec<String>,
    pub remote_ip_blocks: Vec<String>,
    pub not_remote_ip_blocks: Vec<String>,
}

impl Rule {
    /// Whether it looks at a token of an end user.
    pub(crate) fn asks_for_token(&self) -> bool {
        let source = |s: &Source| !s.request_principals.is_empty() || !s.not_request_principals.is_empty();
        self.from.iter().any(source) || self.when.iter().any(|c| c.key.starts_with("request.auth."))
    }
}

/// Fields AND; the values of one field OR.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Operation {
    pub hosts: Vec<String>,
    pub not_hosts: Vec<String>,
    pub ports: Vec<String>,
    pub not_ports: Vec<String>,
    pub methods: Vec<String>,
    pub not_methods: Vec<String>,
    pub paths: Vec<String>,
    pub not_paths: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Condition {
    pub key: String,
    pub values: Vec<String>,
    pub not_values: Vec<String>,
}

impl Condition {
    /// The header that it looks at.
    pub(crate) fn header(&self) -> Option<&str> {
        self.key.strip_prefix("request.headers[")?.strip_suffix(']')
    }
}
