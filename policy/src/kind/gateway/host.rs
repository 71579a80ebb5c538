//! Hosts of a Gateway: patterns, and the namespaces whose routes may use them.

use std::borrow::Cow;
use std::fmt;

/// Which namespaces' VirtualServices may bind to a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Namespaces {
    /// No prefix, or `*/`.
    Any,
    /// `./`: the Gateway's own.
    Own,
    Named(String),
}

/// A host of a server, as its document says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayHost {
    pub namespaces: Namespaces,
    pub pattern: HostPattern,
}

/// One host or a family of hosts, in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HostPattern {
    Exact(String),
    /// `*.example.com` as `.example.com`: every host below it at any depth, as in Istio, not `example.com` itself.
    Below(String),
    Any,
}

impl GatewayHost {
    /// `None` where the text is no such host.
    pub fn parse(text: &str) -> Option<Self> {
        let (namespaces, host) = match text.split_once('/') {
            None => (Namespaces::Any, text),
            Some(("*", host)) => (Namespaces::Any, host),
            Some((".", host)) => (Namespaces::Own, host),
            Some((namespace, host)) => {
                palisade_identity::Namespace::parse(namespace).ok()?;
                (Namespaces::Named(namespace.to_owned()), host)
            }
        };
        Some(Self { namespaces, pattern: HostPattern::parse(host)? })
    }

    /// Whether routes of `namespace` may use this host of a Gateway of `own`.
    pub fn admits(&self, namespace: &str, own: &str) -> bool {
        match &self.namespaces {
            Namespaces::Any => true,
            Namespaces::Own => namespace == own,
            Namespaces::Named(name) => namespace == name,
        }
    }
}

/// As documents write it.
impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Below(suffix) => write!(f, "*{suffix}"),
            Self::Any => f.write_str("*"),
        }
    }
}

impl HostPattern {
    /// `*`, `*.name` or `name`; lower case, without port and trailing dot.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::Any);
        }
        let (below, name) = match text.strip_prefix("*.") {
            Some(name) => (true, name),
            None => (false, text),
        };
        let label = |l: &str| {
            let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
            (1..=63).contains(&l.len()) && l.bytes().all(allowed) && !l.starts_with('-') && !l.ends_with('-')
        };
        if name.len() > 253 || !name.split('.').all(label) {
            return None;
        }
        Some(if below { Self::Below(format!(".{name}")) } else { Self::Exact(name.to_owned()) })
    }

    /// `host` as [`plain_host`] leaves it.
    pub fn matches(&self, host: &str) -> bool {
        match self {
            Self::Exact(name) => host == name,
            Self::Below(suffix) => host.len() > suffix.len() && host.ends_with(suffix.as_str()),
            Self::Any => true,
        }
    }

    /// The more specific the higher: exact, then the longest `*.`, then `*`.
    pub fn rank(&self) -> (u8, usize) {
        match self {
            Self::Exact(name) => (2, name.len()),
            Self::Below(suffix) => (1, suffix.len()),
            Self::Any => (0, 0),
        }
    }

    /// Whether every host of `other` is one of ours.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) => true,
            (_, Self::Any) => false,
            (_, Self::Exact(name)) => self.matches(name),
            (Self::Below(wide), Self::Below(narrow)) => narrow.ends_with(wide.as_str()),
            (Self::Exact(_), Self::Below(_)) => false,
        }
    }
}

/// The host of an authority as patterns are compared with it: without port and trailing dot, in lower case.
pub fn plain_host(authority: &str) -> Cow<'_, str> {
    let host = match authority.rsplit_once(':') {
        // The colons of an IPv6 address in brackets are no port.
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}
