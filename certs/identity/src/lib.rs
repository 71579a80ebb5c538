//! Names of workloads: trust domains and SPIFFE ids.
//!
//! Nothing here touches certificates or the network, so that policy can speak of identities without knowing how
//! they are proved. Source: SPIFFE-ID standard, sections 2.1 to 2.4, and Istio's convention for workload paths,
//! `spiffe://<trust-domain>/ns/<namespace>/sa/<service-account>`.

mod name;
mod spiffe_id;
mod trust_domain;

pub use name::{NameError, Namespace, ServiceAccount};
pub use spiffe_id::{SpiffeId, SpiffeIdError, WorkloadName};
pub use trust_domain::{TrustDomain, TrustDomainError};
