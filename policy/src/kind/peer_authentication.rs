//! PeerAuthentication, security.istio.io/v1: whether a caller must bring a certificate.

use std::collections::BTreeMap;

use super::Selector;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MtlsMode {
    /// Inherit from the next wider object; the widest default is PERMISSIVE, as in Istio.
    #[default]
    Unset,
    Disable,
    Permissive,
    Strict,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerAuthenticationSpec {
    pub selector: Selector,
    pub mode: MtlsMode,
    /// By port of the workload. Needs a selector.
    pub port_level: BTreeMap<u16, MtlsMode>,
}
