use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::name::check_segment;
use crate::{NameError, Namespace, ServiceAccount, TrustDomain, TrustDomainError};

/// The longest SPIFFE id accepted, in bytes (SPIFFE-ID standard, section 2.3).
const SPIFFE_ID_BYTES_MAX: usize = 2048;
const SCHEME: &str = "spiffe://";
/// First path segment of operators' ids.
const OPERATOR: &str = "operator";

/// A SPIFFE id with a path: `spiffe://<trust-domain>/<segment>[/<segment>...]`.
///
/// Kept in its only spelling, so that equality of ids is equality of texts. Cheap to clone: every request does.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId(Arc<Parts>);

#[derive(PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Parts {
    text: Box<str>,
    trust_domain: TrustDomain,
    workload: Option<WorkloadName>,
}

/// The parts of a workload's id in Istio's convention: `/ns/<namespace>/sa/<service-account>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkloadName {
    pub namespace: Namespace,
    pub service_account: ServiceAccount,
}

/// Why a text is no SPIFFE id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpiffeIdError {
    #[error("a SPIFFE id starts with \"spiffe://\"")]
    Scheme,
    #[error("a SPIFFE id has at most {SPIFFE_ID_BYTES_MAX} bytes, this one has {0}")]
    TooLong(usize),
    #[error("the trust domain is wrong")]
    TrustDomain(#[source] TrustDomainError),
    #[error("a workload's SPIFFE id has a path")]
    NoPath,
    #[error("the path is wrong")]
    Path(#[source] NameError),
}

impl SpiffeId {
    /// Reads an id. Query, fragment, port, user info, empty segments, `.`, `..` and a trailing `/` are refused.
    pub fn parse(text: &str) -> Result<Self, SpiffeIdError> {
        if text.len() > SPIFFE_ID_BYTES_MAX {
            return Err(SpiffeIdError::TooLong(text.len()));
        }
        let rest = text.strip_prefix(SCHEME).ok_or(SpiffeIdError::Scheme)?;
        let (domain, path) = rest.split_once('/').ok_or(SpiffeIdError::NoPath)?;
        let trust_domain = TrustDomain::parse(domain).map_err(SpiffeIdError::TrustDomain)?;
        for segment in path.split('/') {
            check_segment("path segment", segment).map_err(SpiffeIdError::Path)?;
        }
        let workload = WorkloadName::from_path(path);
        Ok(Self::new(text, trust_domain, workload))
    }

    fn new(text: &str, trust_domain: TrustDomain, workload: Option<WorkloadName>) -> Self {
        Self(Arc::new(Parts { text: text.into(), trust_domain, workload }))
    }

    /// The id of a workload in Istio's convention.
    pub fn of_workload(
        domain: &TrustDomain,
        namespace: &Namespace,
        service_account: &ServiceAccount,
    ) -> Self {
        let text = format!("{SCHEME}{domain}/ns/{namespace}/sa/{service_account}");
        let workload =
            WorkloadName { namespace: namespace.clone(), service_account: service_account.clone() };
        Self::new(&text, domain.clone(), Some(workload))
    }

    /// The control plane's own id: `/ns/palisade-system/sa/control-plane`.
    pub fn control_plane(domain: &TrustDomain) -> Self {
        Self::of_workload(domain, &Namespace::palisade_system(), &ServiceAccount::control_plane())
    }

    /// The id of an operator: `/operator/<name>`. It has not the form of a workload, so no peer of the mesh has it.
    pub fn operator(domain: &TrustDomain, name: &str) -> Result<Self, NameError> {
        check_segment("operator", name)?;
        let text = format!("{SCHEME}{domain}/{OPERATOR}/{name}");
        Ok(Self::new(&text, domain.clone(), None))
    }

    /// The name in an operator's id; `None` for every other id.
    pub fn operator_name(&self) -> Option<&str> {
        let (_, path) = self.principal().split_once('/')?;
        let name = path.strip_prefix(OPERATOR)?.strip_prefix('/')?;
        (!name.contains('/')).then_some(name)
    }

    /// The whole id, with scheme.
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// The id as Istio's policies write it: without `spiffe://`.
    pub fn principal(&self) -> &str {
        self.as_str().strip_prefix(SCHEME).unwrap_or(self.as_str())
    }

    pub fn trust_domain(&self) -> &TrustDomain {
        &self.0.trust_domain
    }

    /// Namespace and service account, where the path has Istio's form `/ns/<namespace>/sa/<service-account>`.
    pub fn workload(&self) -> Option<&WorkloadName> {
        self.0.workload.as_ref()
    }
}

impl WorkloadName {
    fn from_path(path: &str) -> Option<Self> {
        let mut segments = path.split('/');
        let (ns, namespace) = (segments.next()?, segments.next()?);
        let (sa, service_account) = (segments.next()?, segments.next()?);
        if ns != "ns" || sa != "sa" || segments.next().is_some() {
            return None;
        }
        Some(Self {
            namespace: Namespace::parse(namespace).ok()?,
            service_account: ServiceAccount::parse(service_account).ok()?,
        })
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl FromStr for SpiffeId {
    type Err = SpiffeIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_workload() {
        let id = SpiffeId::parse("spiffe://corp.example/ns/payments/sa/ledger").unwrap();
        assert_eq!(id.trust_domain().as_str(), "corp.example");
        assert_eq!(id.principal(), "corp.example/ns/payments/sa/ledger");
        let workload = id.workload().unwrap();
        assert_eq!((workload.namespace.as_str(), workload.service_account.as_str()), ("payments", "ledger"));
        let made = SpiffeId::of_workload(id.trust_domain(), &workload.namespace, &workload.service_account);
        assert_eq!(made, id);
    }

    #[test]
    fn makes_the_ids_of_control_plane_and_operators() {
        let domain = TrustDomain::parse("corp.example").unwrap();
        let control_plane = SpiffeId::control_plane(&domain);
        assert_eq!(control_plane.as_str(), "spiffe://corp.example/ns/palisade-system/sa/control-plane");
        assert_eq!(control_plane, SpiffeId::parse(control_plane.as_str()).unwrap());
        assert_eq!(control_plane.operator_name(), None);
        let alice = SpiffeId::operator(&domain, "alice").unwrap();
        assert_eq!(alice, SpiffeId::parse("spiffe://corp.example/operator/alice").unwrap());
        assert_eq!((alice.operator_name(), alice.workload()), (Some("alice"), None));
        for name in ["", "a/b", "..", "a b"] {
            assert!(SpiffeId::operator(&domain, name).is_err(), "{name:?}");
        }
        for path in ["operator", "operators/a", "operator/a/b", "x/operator/a"] {
            let id = SpiffeId::parse(&format!("spiffe://corp.example/{path}")).unwrap();
            assert_eq!(id.operator_name(), None, "{path}");
        }
    }

    #[test]
    fn other_paths_are_ids_but_no_workloads() {
        for path in ["operator/alice", "ns/a/sa", "ns/a/sa/b/c", "sa/b/ns/a", "NS/a/sa/b", "x/ns/a/sa/b"] {
            let id = SpiffeId::parse(&format!("spiffe://corp.example/{path}")).unwrap();
            assert!(id.workload().is_none(), "{path}");
        }
    }

    #[test]
    fn refuses_what_the_standard_refuses() {
        let rows = [
            "",
            "corp.example/ns/a/sa/b",
            "SPIFFE://corp.example/a",
            "https://corp.example/a",
            "spiffe://",
            "spiffe:///a",
            "spiffe://corp.example",
            "spiffe://corp.example/",
            "spiffe://corp.example/a/",
            "spiffe://corp.example//a",
            "spiffe://corp.example/a//b",
            "spiffe://corp.example/a/./b",
            "spiffe://corp.example/a/../b",
            "spiffe://corp.example/a?b",
            "spiffe://corp.example/a#b",
            "spiffe://corp.example/a%2fb",
            "spiffe://corp.example:443/a",
            "spiffe://me@corp.example/a",
            "spiffe://Corp.example/a",
            "spiffe://corp.example/a\0",
            "spiffe://corp.example/ä",
            " spiffe://corp.example/a",
        ];
        for text in rows {
            assert!(SpiffeId::parse(text).is_err(), "{text:?}");
        }
        let long = format!("spiffe://corp.example/{}", "a".repeat(2048));
        assert!(matches!(SpiffeId::parse(&long), Err(SpiffeIdError::TooLong(_))));
    }
}
