//! One compiled field of a rule: an attribute of the request, values that it may have, values that it may not have.

use std::net::IpAddr;

use ipnet::IpNet;

use super::header::HeaderClause;
use super::host::HostMatch;
use super::namespace::NamespaceMatch;
use super::path::PathMatch;
use super::source_account::AccountMatch;
use super::text::{Case, TextMatch};
use super::token::TokenAttribute;
use crate::request::RequestView;

/// What a match leads to. Where an attribute can be spelled or sent in several ways, the reading is taken that
/// opens less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::kind) enum Reading {
    /// ALLOW.
    Permitting,
    /// DENY, and AUDIT, which watches for what a DENY would catch.
    Refusing,
}

impl Reading {
    /// The reading of the values that a field must not have.
    pub(super) fn negated(self) -> Self {
        match self {
            Self::Permitting => Self::Refusing,
            Self::Refusing => Self::Permitting,
        }
    }
}

/// `x: [...]` and `notX: [...]`. An empty list constrains nothing.
#[derive(Clone, Debug)]
pub(super) struct Values<T> {
    pub(super) any: Box<[T]>,
    pub(super) none: Box<[T]>,
}

impl<T> Values<T> {
    pub(super) fn fit(&self, matches: impl Fn(&T) -> bool) -> bool {
        (self.any.is_empty() || self.any.iter().any(&matches)) && !self.none.iter().any(&matches)
    }

    /// An attribute that is absent has none of the values: `x` fails, `notX` holds (Istio's rule for plaintext).
    pub(super) fn fit_absent(&self) -> bool {
        self.any.is_empty()
    }

    fn fit_some<V>(&self, value: Option<V>, matches: impl Fn(&T, &V) -> bool) -> bool {
        match value {
            Some(value) => self.fit(|t| matches(t, &value)),
            None => self.fit_absent(),
        }
    }
}

#[derive(Clone, Debug)]
pub(super) enum Clause {
    Principal(Values<TextMatch>),
    Namespace(Values<NamespaceMatch>),
    TrustDomain(Values<TextMatch>),
    ServiceAccount(Values<AccountMatch>),
    SourceIp(Values<IpNet>),
    RemoteIp(Values<IpNet>),
    DestinationIp(Values<IpNet>),
    DestinationPort(Values<u16>),
    Method(Values<TextMatch>),
    Path(Values<PathMatch>),
    Host(Values<HostMatch>),
    Header(HeaderClause, Reading),
    Sni(Values<TextMatch>),
    /// An attribute of the end user's verified token.
    Token(TokenAttribute, Values<TextMatch>),
    /// What the rule asks of HTTP, where nothing is read that could be HTTP: it never holds.
    Http,
}

impl Clause {
    pub(super) fn matches(&self, request: &RequestView<'_>) -> bool {
        let exact = |pattern: &TextMatch, text: &&str| pattern.matches(text.as_bytes(), Case::Exact);
        let ignoring_case = |pattern: &TextMatch, text: &&str| pattern.matches(text.as_bytes(), Case::Ignore);
        let peer = request.peer;
        match self {
            Self::Principal(values) => values.fit_some(peer.map(|p| p.principal()), exact),
            Self::Namespace(values) => {
                let namespace = peer.and_then(|p| p.workload()).map(|w| w.namespace.as_str());
                values.fit_some(namespace, |pattern, namespace| pattern.matches(namespace))
            }
            Self::TrustDomain(values) => values.fit_some(peer.map(|p| p.trust_domain().as_str()), exact),
            Self::ServiceAccount(values) => values.fit_some(peer, |account, peer| account.matches(peer)),
            Self::SourceIp(values) => contains(values, request.source_ip),
            Self::RemoteIp(values) => contains(values, request.remote_ip),
            Self::DestinationIp(values) => contains(values, request.destination_ip),
            Self::DestinationPort(values) => values.fit(|port| *port == request.destination_port),
            Self::Method(values) => values.fit(|m| exact(m, &request.method)),
            Self::Path(values) => values.fit(|p| p.matches(request.path)),
            Self::Host(values) => values.fit(|h| h.matches(request.host)),
            Self::Header(clause, reading) => clause.matches(request.headers, *reading),
            Self::Sni(values) => values.fit_some(request.sni, ignoring_case),
            Self::Token(attribute, values) => attribute.fits(request.token, values),
            Self::Http => false,
        }
    }
}

/// An IPv4 address that arrived on an IPv6 socket is the IPv4 address.
fn contains(blocks: &Values<IpNet>, address: IpAddr) -> bool {
    let address = address.to_canonical();
    blocks.fit(|block| block.contains(&address))
}
