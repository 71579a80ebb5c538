//! DestinationRule, networking.istio.io/v1. This version takes `trafficPolicy.tls` and `portLevelSettings[].tls`;
//! every other field is refused by name.

use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TlsMode {
    #[default]
    Disable,
    /// TLS, the server's name checked, no client certificate.
    Simple,
    /// As Simple, with a client certificate from files.
    Mutual,
    /// Mesh mutual TLS with the workload's own SVID.
    IstioMutual,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsSettings {
    pub mode: TlsMode,
    pub sni: Option<String>,
    pub subject_alt_names: Vec<String>,
    /// PEM file of the roots; absent: the system's.
    pub ca_certificates: Option<String>,
    pub client_certificate: Option<String>,
    pub private_key: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DestinationRuleSpec {
    pub host: String,
    pub tls: Option<TlsSettings>,
    pub port_level_tls: BTreeMap<u16, TlsSettings>,
}
