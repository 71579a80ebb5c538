//! What a compiled rule asks of a request, clause by clause. The clauses are those that decide, and each is asked in the
//! way in which it is asked when it decides; nothing here judges on its own.

use std::fmt::Write as _;

use super::clause::{Clause, Values};
use super::rule_set::CompiledRule;
use super::text::TextMatch;
use super::token::TokenAttribute;
use crate::request::RequestView;

/// How many values of a clause are shown.
const VALUES_SHOWN_MAX: usize = 8;

/// What of a request a clause looks at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Attribute {
    Principal,
    Namespace,
    TrustDomain,
    ServiceAccount,
    SourceIp,
    RemoteIp,
    DestinationIp,
    Port,
    /// HTTP, or raw TCP.
    Protocol,
    Method,
    Path,
    Host,
    /// By its name, in lower case.
    Header(String),
    Sni,
    /// `iss/sub` of the end user's token.
    RequestPrincipal,
    /// Another part of the token, as in a condition's key: `request.auth.claims[x]`.
    Token(String),
}

/// One clause and one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClauseTrace {
    pub attribute: Attribute,
    pub holds: bool,
    /// The values that are taken, as policies write them: `GET or POST`, `anything but /admin*`.
    pub wanted: String,
    /// What the request has; `None` where it has nothing.
    pub got: Option<String>,
}

/// One rule and one request. Parts are alternatives, the clauses of a part are joined by "and".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleTrace {
    pub from: Vec<Vec<ClauseTrace>>,
    pub to: Vec<Vec<ClauseTrace>>,
    pub when: Vec<ClauseTrace>,
}

impl RuleTrace {
    pub(crate) fn new(rule: &CompiledRule, request: &RequestView<'_>) -> Self {
        let all = |clauses: &[Clause]| clauses.iter().map(|clause| clause.trace(request)).collect();
        let each = |parts: &[Box<[Clause]>]| parts.iter().map(|part| all(part)).collect();
        Self { from: each(rule.sources()), to: each(rule.operations()), when: all(rule.conditions()) }
    }

    /// Whether the rule is about the request.
    pub fn matches(&self) -> bool {
        let all = |clauses: &[ClauseTrace]| clauses.iter().all(|clause| clause.holds);
        let any = |parts: &[Vec<ClauseTrace>]| parts.is_empty() || parts.iter().any(|part| all(part));
        any(&self.from) && any(&self.to) && all(&self.when)
    }

    /// The clauses of the rule; of each list of alternatives those of the one that lacks least.
    pub fn nearest(&self) -> impl Iterator<Item = &ClauseTrace> {
        nearest(&self.from).iter().chain(nearest(&self.to)).chain(&self.when)
    }

    /// What keeps the rule from matching, by the nearest alternatives. Empty where it matches.
    pub fn lacks(&self) -> Vec<&ClauseTrace> {
        self.nearest().filter(|clause| !clause.holds).collect()
    }

    /// Every clause of every part.
    pub fn clauses(&self) -> impl Iterator<Item = &ClauseTrace> {
        self.from.iter().chain(&self.to).flatten().chain(&self.when)
    }
}

/// The alternative that lacks least, the first of several.
fn nearest(parts: &[Vec<ClauseTrace>]) -> &[ClauseTrace] {
    let missing = |part: &&Vec<ClauseTrace>| part.iter().filter(|clause| !clause.holds).count();
    parts.iter().min_by_key(missing).map(Vec::as_slice).unwrap_or_default()
}

impl Attribute {
    /// What operators call it.
    pub fn name(&self) -> String {
        match self {
            Self::Principal => "caller".into(),
            Self::Namespace => "caller's namespace".into(),
            Self::TrustDomain => "caller's trust domain".into(),
            Self::ServiceAccount => "caller's service account".into(),
            Self::SourceIp => "source address".into(),
            Self::RemoteIp => "client address".into(),
            Self::DestinationIp => "destination address".into(),
            Self::Port => "port".into(),
            Self::Protocol => "protocol".into(),
            Self::Method => "method".into(),
            Self::Path => "path".into(),
            Self::Host => "host".into(),
            Self::Header(name) => format!("header {name}"),
            Self::Sni => "SNI".into(),
            Self::RequestPrincipal => "end user".into(),
            Self::Token(key) => key.clone(),
        }
    }

    /// Whether it says who is calling.
    pub fn is_caller(&self) -> bool {
        matches!(self, Self::Principal | Self::Namespace | Self::TrustDomain | Self::ServiceAccount)
    }
}

impl Clause {
    fn trace(&self, request: &RequestView<'_>) -> ClauseTrace {
        ClauseTrace {
            attribute: self.attribute(),
            holds: self.matches(request),
            wanted: self.wanted(),
            got: self.got(request),
        }
    }

    fn attribute(&self) -> Attribute {
        match self {
            Self::Principal(_) => Attribute::Principal,
            Self::Namespace(_) => Attribute::Namespace,
            Self::TrustDomain(_) => Attribute::TrustDomain,
            Self::ServiceAccount(_) => Attribute::ServiceAccount,
            Self::SourceIp(_) => Attribute::SourceIp,
            Self::RemoteIp(_) => Attribute::RemoteIp,
            Self::DestinationIp(_) => Attribute::DestinationIp,
            Self::DestinationPort(_) => Attribute::Port,
            Self::Method(_) => Attribute::Method,
            Self::Path(_) => Attribute::Path,
            Self::Host(_) => Attribute::Host,
            Self::Header(clause, _) => Attribute::Header(clause.name.as_str().to_owned()),
            Self::Sni(_) => Attribute::Sni,
            Self::Token(TokenAttribute::Principal, _) => Attribute::RequestPrincipal,
            Self::Token(attribute, _) => Attribute::Token(attribute.key()),
            Self::Http => Attribute::Protocol,
        }
    }

    fn wanted(&self) -> String {
        match self {
            Self::Principal(values)
            | Self::TrustDomain(values)
            | Self::Method(values)
            | Self::Sni(values)
            | Self::Token(_, values) => wanted(values, TextMatch::written),
            Self::Namespace(values) => wanted(values, ToString::to_string),
            Self::ServiceAccount(values) => wanted(values, ToString::to_string),
            Self::SourceIp(values) | Self::RemoteIp(values) | Self::DestinationIp(values) => {
                wanted(values, ToString::to_string)
            }
            Self::DestinationPort(values) => wanted(values, ToString::to_string),
            Self::Path(values) => wanted(values, ToString::to_string),
            Self::Host(values) => wanted(values, ToString::to_string),
            Self::Header(clause, _) => said(&clause.any, &clause.none, TextMatch::written),
            Self::Http => "HTTP".to_owned(),
        }
    }

    fn got(&self, request: &RequestView<'_>) -> Option<String> {
        let peer = request.peer;
        match self {
            Self::Principal(_) => peer.map(|peer| peer.principal().to_owned()),
            Self::Namespace(_) => peer.and_then(|p| p.workload()).map(|w| w.namespace.as_str().to_owned()),
            Self::TrustDomain(_) => peer.map(|peer| peer.trust_domain().as_str().to_owned()),
            Self::ServiceAccount(_) => peer
                .and_then(|peer| peer.workload())
                .map(|w| format!("{}/{}", w.namespace.as_str(), w.service_account.as_str())),
            Self::SourceIp(_) => Some(request.source_ip.to_canonical().to_string()),
            Self::RemoteIp(_) => Some(request.remote_ip.to_canonical().to_string()),
            Self::DestinationIp(_) => Some(request.destination_ip.to_canonical().to_string()),
            Self::DestinationPort(_) => Some(request.destination_port.to_string()),
            Self::Method(_) => Some(request.method.to_owned()),
            Self::Path(_) => Some(request.path.to_owned()),
            Self::Host(_) => Some(request.host.to_owned()),
            Self::Header(clause, _) => {
                let values = request.headers.get_all(&clause.name).iter();
                let values: Vec<_> = values.map(|v| String::from_utf8_lossy(v.as_bytes())).collect();
                (!values.is_empty()).then(|| values.join(" and "))
            }
            Self::Sni(_) => request.sni.map(str::to_owned),
            Self::Http => Some("TCP".to_owned()),
            Self::Token(attribute, _) => {
                let texts = request.token.map(|token| attribute.texts(token)).unwrap_or_default();
                (!texts.is_empty()).then(|| texts.join(", "))
            }
        }
    }
}

fn wanted<T>(values: &Values<T>, text: impl Fn(&T) -> String) -> String {
    said(&values.any, &values.none, text)
}

fn said<T>(any: &[T], none: &[T], text: impl Fn(&T) -> String) -> String {
    let list = |values: &[T]| {
        let mut out: Vec<String> = values.iter().take(VALUES_SHOWN_MAX).map(&text).collect();
        if values.len() > VALUES_SHOWN_MAX {
            out.push(format!("{} more", values.len() - VALUES_SHOWN_MAX));
        }
        out.join(" or ")
    };
    let mut out = list(any);
    if !none.is_empty() {
        let but = if out.is_empty() { "anything but " } else { ", but not " };
        let _infallible = write!(out, "{but}{}", list(none));
    }
    out
}
