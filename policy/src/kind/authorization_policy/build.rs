//! From a spec to its compiled form. YAML and wire come through here alike, so both are checked alike.

use std::fmt::Display;

use http::HeaderName;
use ipnet::IpNet;
use palisade_identity::SpiffeId;

use super::clause::{Clause, Reading, Values};
use super::header::HeaderClause;
use super::host::HostMatch;
use super::namespace::NamespaceMatch;
use super::path::PathMatch;
use super::rule_set::CompiledRule;
use super::source_account::AccountMatch;
use super::text::{TextMatch, has_inner_wildcard};
use super::token::TokenAttribute;
use super::{Action, AuthorizationPolicySpec, Condition, Operation, Rule, Source, is_dry_run};
use crate::document::reader::parse_port;
use crate::finding::code;
use crate::finding::problem::{Problems, did_you_mean};
use crate::kind::Meta;
use crate::kind::trust_domains::TrustDomains;

/// The condition keys that take a fixed name.
const CONDITION_KEYS: &[&str] = &[
    "source.ip",
    "remote.ip",
    "source.namespace",
    "source.principal",
    "source.trustDomain",
    "source.serviceAccount",
    "request.auth.principal",
    "request.auth.audiences",
    "request.auth.presenter",
    "destination.ip",
    "destination.port",
    "connection.sni",
];

/// Compiles the rules of a policy. What does not fit is reported; the result counts only where no error is.
pub(crate) fn build(
    meta: &Meta,
    spec: &AuthorizationPolicySpec,
    domains: &TrustDomains,
    problems: &mut Problems,
) -> Vec<CompiledRule> {
    if let Err(value) = is_dry_run(meta) {
        let path = "metadata.annotations.istio.io/dry-run";
        problems.error(code::BAD_DRY_RUN, path, format!("{value:?} is neither true nor false"));
    }
    if spec.action == Action::Audit && is_dry_run(meta) == Ok(true) {
        let path = "metadata.annotations.istio.io/dry-run";
        problems.error(
            code::BAD_DRY_RUN,
            path,
            "an AUDIT policy decides nothing, so that there is nothing to try",
        );
        problems.help("remove the annotation, or write the action that is to be tried");
    }
    if spec.rules.is_empty() && spec.action != Action::Allow {
        problems.error(code::NO_RULES, "spec", "a DENY or AUDIT policy without rules never matches");
        problems.help("write rules: [{}] to match every request, or delete the policy");
    }
    let mut builder = Builder::new(meta, spec.action, domains, problems);
    spec.rules.iter().enumerate().map(|(i, rule)| builder.rule(rule, &format!("spec.rules[{i}]"))).collect()
}

pub(super) struct Builder<'b> {
    namespace: &'b str,
    pub(super) reading: Reading,
    domains: &'b TrustDomains,
    problems: &'b mut Problems,
}

/// The values of a field and of its negation, with their paths. A list without values has no path: most have none, and a
/// thousand policies are compiled at every push.
struct Lists<'l> {
    any: (&'l [String], String),
    none: (&'l [String], String),
}

impl<'l> Lists<'l> {
    fn new(path: &str, name: &str, any: &'l [String], none: &'l [String]) -> Self {
        let negated = || {
            let mut letters = name.chars();
            let first = letters.next().map(|letter| letter.to_ascii_uppercase());
            format!("{path}.not{}{}", first.map(String::from).unwrap_or_default(), letters.as_str())
        };
        let any_path = if any.is_empty() { String::new() } else { format!("{path}.{name}") };
        let none_path = if none.is_empty() { String::new() } else { negated() };
        Self { any: (any, any_path), none: (none, none_path) }
    }

    fn is_empty(&self) -> bool {
        self.any.0.is_empty() && self.none.0.is_empty()
    }
}

impl<'b> Builder<'b> {
    pub(super) fn new(
        meta: &'b Meta,
        action: Action,
        domains: &'b TrustDomains,
        problems: &'b mut Problems,
    ) -> Self {
        let reading = match action {
            Action::Allow => Reading::Permitting,
            Action::Deny | Action::Audit => Reading::Refusing,
        };
        Self { namespace: &meta.namespace, reading, domains, problems }
    }

    pub(super) fn rule(&mut self, rule: &Rule, path: &str) -> CompiledRule {
        let each = |n: usize, part: &str| format!("{path}.{part}[{n}]");
        let sources =
            rule.from.iter().enumerate().map(|(i, s)| self.source(s, &format!("{}.source", each(i, "from"))));
        let sources: Vec<_> = sources.collect();
        let operations: Vec<_> = rule
            .to
            .iter()
            .enumerate()
            .map(|(i, o)| self.operation(o, &format!("{}.operation", each(i, "to"))))
            .collect();
        let conditions = rule.when.iter().enumerate().map(|(i, c)| self.condition(c, &each(i, "when")));
        let conditions = conditions.flatten().collect();
        CompiledRule::new(sources, operations, conditions)
    }

    fn source(&mut self, source: &Source, path: &str) -> Box<[Clause]> {
        let s = source;
        self.refuse_combined_accounts(source, path);
        let lists = |name, any, none| Lists::new(path, name, any, none);
        let mut clauses = Vec::new();
        let principals = lists("principals", &s.principals, &s.not_principals);
        clauses.extend(self.principals(&principals));
        let accounts = lists("serviceAccounts", &s.service_accounts, &s.not_service_accounts);
        clauses.extend(self.accounts(&accounts));
        let namespaces = lists("namespaces", &s.namespaces, &s.not_namespaces);
        clauses.extend(self.namespaces(&namespaces));
        let trust_domains = lists("trustDomains", &s.trust_domains, &s.not_trust_domains);
        clauses.extend(self.texts(&trust_domains).map(Clause::TrustDomain));
        let ips = lists("ipBlocks", &s.ip_blocks, &s.not_ip_blocks);
        clauses.extend(self.blocks(&ips).map(Clause::SourceIp));
        let remote_ips = lists("remoteIpBlocks", &s.remote_ip_blocks, &s.not_remote_ip_blocks);
        clauses.extend(self.blocks(&remote_ips).map(Clause::RemoteIp));
        let tokens = lists("requestPrincipals", &s.request_principals, &s.not_request_principals);
        clauses.extend(self.token(TokenAttribute::Principal, &tokens));
        self.refuse_empty(clauses, path, "source")
    }

    fn operation(&mut self, operation: &Operation, path: &str) -> Box<[Clause]> {
        let o = operation;
        let lists = |name, any, none| Lists::new(path, name, any, none);
        let mut clauses = Vec::new();
        clauses.extend(self.texts(&lists("methods", &o.methods, &o.not_methods)).map(Clause::Method));
        clauses.extend(self.ports(&lists("ports", &o.ports, &o.not_ports)));
        clauses.extend(self.paths(&lists("paths", &o.paths, &o.not_paths)));
        clauses.extend(self.hosts(&lists("hosts", &o.hosts, &o.not_hosts)));
        self.refuse_empty(clauses, path, "operation")
    }

    fn condition(&mut self, condition: &Condition, path: &str) -> Option<Clause> {
        let lists = Lists::new(path, "values", &condition.values, &condition.not_values);
        if lists.is_empty() {
            self.problems.error(code::EMPTY_PART, path, "the condition has neither values nor notValues");
            return None;
        }
        match condition.key.as_str() {
            "source.ip" => self.blocks(&lists).map(Clause::SourceIp),
            "remote.ip" => self.blocks(&lists).map(Clause::RemoteIp),
            "destination.ip" => self.blocks(&lists).map(Clause::DestinationIp),
            "source.namespace" => self.namespaces(&lists),
            "source.trustDomain" => self.texts(&lists).map(Clause::TrustDomain),
            "source.principal" => self.principals(&lists),
            "source.serviceAccount" => self.accounts(&lists),
            "destination.port" => self.ports(&lists),
            "connection.sni" => self.texts(&lists).map(Clause::Sni),
            "request.auth.principal" => self.token(TokenAttribute::Principal, &lists),
            "request.auth.audiences" => self.token(TokenAttribute::Audiences, &lists),
            "request.auth.presenter" => self.token(TokenAttribute::Presenter, &lists),
            "request.headers[:method]" => self.texts(&lists).map(Clause::Method),
            "request.headers[:authority]" | "request.headers[host]" => self.hosts(&lists),
            key => match TokenAttribute::claim(key) {
                Some(claim) => self.token(claim, &lists),
                None => self.header(condition, &lists, path),
            },
        }
    }

    fn header(&mut self, condition: &Condition, lists: &Lists<'_>, path: &str) -> Option<Clause> {
        let key = condition.key.as_str();
        let path = format!("{path}.key");
        if key.starts_with("experimental.") {
            self.problems.error(
                code::UNSUPPORTED_CONDITION_KEY,
                path,
                format!("the key {key:?} is not taken"),
            );
            self.problems.help("experimental.* keys speak of Envoy's filters; there are none here");
            return None;
        }
        let Some(name) = condition.header() else {
            self.problems.error(
                code::UNKNOWN_CONDITION_KEY,
                path,
                format!("there is no condition key {key:?}"),
            );
            let families = ["request.headers[name]", "request.auth.claims[name]"];
            let known = CONDITION_KEYS.iter().copied().chain(families);
            match did_you_mean(key, known.clone()) {
                Some(near) => self.problems.help(format!("did you mean {near}?")),
                None => self.problems.help(format!("one of {}", known.collect::<Vec<_>>().join(", "))),
            }
            return None;
        };
        if name.starts_with(':') {
            let message = format!("the pseudo-header {name:?} is not taken in a condition");
            self.problems.error(code::UNSUPPORTED_CONDITION_KEY, path, message);
            self.problems.help("use paths, hosts and methods of an operation");
            return None;
        }
        let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else {
            self.problems.error(code::UNKNOWN_CONDITION_KEY, path, format!("{name:?} is no header name"));
            return None;
        };
        let Values { any, none } = self.texts(lists)?;
        Some(Clause::Header(HeaderClause { name, any, none }, self.reading))
    }

    fn principals(&mut self, lists: &Lists<'_>) -> Option<Clause> {
        for (values, path) in [&lists.any, &lists.none] {
            for (i, value) in values.iter().enumerate() {
                self.check_principal(value, &format!("{path}[{i}]"));
            }
        }
        let domains = self.domains;
        self.many(lists, |_, value, _| domains.expand(value).iter().map(|p| TextMatch::new(p)).collect())
            .map(Clause::Principal)
    }

    fn check_principal(&mut self, value: &str, path: &str) {
        self.warn_inner_wildcard(value, path);
        if let Some(rest) = value.strip_prefix("spiffe://") {
            let message = format!("the principal {value:?} would never match");
            self.problems.error(code::PRINCIPAL_SCHEME, path, message);
            self.problems.help(format!("principals are written without the scheme: {rest:?}"));
        } else if !value.contains('*') && SpiffeId::parse(&format!("spiffe://{value}")).is_err() {
            let message = format!("the principal {value:?} is no SPIFFE id, so it never matches");
            self.problems.warning(code::NEVER_MATCHES, path, message);
            self.problems.help("write <trust-domain>/ns/<namespace>/sa/<service-account>");
        }
    }

    fn accounts(&mut self, lists: &Lists<'_>) -> Option<Clause> {
        let namespace = self.namespace;
        self.many(lists, |this, value, path| {
            let account = AccountMatch::new(value, namespace);
            if account.is_none() {
                let message = format!("{value:?} is no service account");
                this.problems.error(code::BAD_SERVICE_ACCOUNT, path, message);
                this.problems
                    .help("write namespace/name, or name for the policy's own namespace; no patterns");
            }
            account.into_iter().collect()
        })
        .map(Clause::ServiceAccount)
    }

    fn namespaces(&mut self, lists: &Lists<'_>) -> Option<Clause> {
        self.many(lists, |_, value, _| vec![NamespaceMatch::new(value)]).map(Clause::Namespace)
    }

    fn texts(&mut self, lists: &Lists<'_>) -> Option<Values<TextMatch>> {
        self.many(lists, |this, value, path| {
            this.warn_inner_wildcard(value, path);
            vec![TextMatch::new(value)]
        })
    }

    fn hosts(&mut self, lists: &Lists<'_>) -> Option<Clause> {
        let values = self.both(lists, |this, value, path, reading| {
            this.warn_inner_wildcard(value, path);
            vec![HostMatch::new(value, reading)]
        });
        values.map(Clause::Host)
    }

    fn paths(&mut self, lists: &Lists<'_>) -> Option<Clause> {
        let values = self.both(lists, |this, value, path, reading| match PathMatch::new(value, reading) {
            Ok(matcher) => {
                if !value.contains('{') {
                    this.warn_inner_wildcard(value, path);
                }
                vec![matcher]
            }
            Err(error) => {
                this.bad(code::BAD_PATH_TEMPLATE, path, value, &error);
                this.problems.help("for example /accounts/{*}/balance or /static/{**}");
                Vec::new()
            }
        });
        values.map(Clause::Path)
    }

    fn ports(&mut self, lists: &Lists<'_>) -> Option<Clause> {
        self.many(lists, |this, value, path| {
            let port = parse_port(value);
            if port.is_none() {
                this.problems.error(
                    code::BAD_PORT,
                    path,
                    format!("{value:?} is no port; ports are 1 to 65535"),
                );
            }
            port.into_iter().collect()
        })
        .map(Clause::DestinationPort)
    }

    fn blocks(&mut self, lists: &Lists<'_>) -> Option<Values<IpNet>> {
        self.many(lists, |this, value, path| {
            let block = parse_block(value);
            if block.is_none() {
                this.problems.error(
                    code::BAD_ADDRESS_BLOCK,
                    path,
                    format!("{value:?} is no address and no CIDR block"),
                );
                this.problems.help("for example 10.0.0.7 or 10.0.0.0/8");
            }
            block.into_iter().collect()
        })
    }

    fn token(&mut self, attribute: TokenAttribute, lists: &Lists<'_>) -> Option<Clause> {
        self.texts(lists).map(|values| Clause::Token(attribute, values))
    }

    fn many<T>(
        &mut self,
        lists: &Lists<'_>,
        mut each: impl FnMut(&mut Self, &str, &str) -> Vec<T>,
    ) -> Option<Values<T>> {
        self.both(lists, |this, value, path, _reading| each(this, value, path))
    }

    /// As `many`, where it matters what a match of the values, or of those that must not be, leads to.
    fn both<T>(
        &mut self,
        lists: &Lists<'_>,
        mut each: impl FnMut(&mut Self, &str, &str, Reading) -> Vec<T>,
    ) -> Option<Values<T>> {
        if lists.is_empty() {
            return None;
        }
        let reading = self.reading;
        let mut side = |(values, path): &(&[String], String), reading| -> Box<[T]> {
            let mut out = Vec::with_capacity(values.len());
            for (i, value) in values.iter().enumerate() {
                let path = format!("{path}[{i}]");
                if value.is_empty() {
                    self.problems.error(code::EMPTY_VALUE, path, "the text is empty");
                    continue;
                }
                out.extend(each(self, value, &path, reading));
            }
            out.into()
        };
        Some(Values { any: side(&lists.any, reading), none: side(&lists.none, reading.negated()) })
    }

    fn refuse_combined_accounts(&mut self, s: &Source, path: &str) {
        let accounts = !s.service_accounts.is_empty() || !s.not_service_accounts.is_empty();
        let others = [&s.principals, &s.not_principals, &s.namespaces, &s.not_namespaces];
        if accounts && others.iter().any(|list| !list.is_empty()) {
            let message = "serviceAccounts cannot stand beside principals or namespaces in one source";
            self.problems.error(code::SERVICE_ACCOUNT_COMBINED, path, message);
            self.problems
                .help("write two sources to mean \"or\"; a service account names its namespace already");
        }
    }

    fn refuse_empty(&mut self, clauses: Vec<Clause>, path: &str, what: &str) -> Box<[Clause]> {
        if clauses.is_empty() {
            self.problems.error(code::EMPTY_PART, path, format!("the {what} says nothing"));
            self.problems.help("an empty rule {} matches everything; a part that is written names something");
        }
        clauses.into()
    }

    fn warn_inner_wildcard(&mut self, value: &str, path: &str) {
        if has_inner_wildcard(value) {
            let message = format!("the \"*\" inside {value:?} matches only itself");
            self.problems.warning(code::INNER_WILDCARD, path, message);
            self.problems.help("\"*\" is a wildcard at the start or at the end, not at both");
        }
    }

    fn bad(&mut self, code: &'static str, path: &str, value: &str, error: &dyn Display) {
        self.problems.error(code, path, format!("{value:?} is refused: {error}"));
    }
}

/// An address stands for itself alone; bits below the mask are ignored, as Istio does.
fn parse_block(text: &str) -> Option<IpNet> {
    match text.parse::<IpNet>() {
        Ok(block) => Some(block.trunc()),
        Err(_) => text.parse::<std::net::IpAddr>().ok().map(|a| IpNet::from(a.to_canonical())),
    }
}
