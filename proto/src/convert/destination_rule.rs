use palisade_policy::kind::destination_rule::{TlsMode, TlsSettings};
use palisade_policy::kind::{DestinationRuleSpec, Named};

use super::WireError;
use super::scalar::{each_port, enumeration, meta, named, optional_text, unspecified};
use crate::v1;
use crate::v1::destination_rule as wire;

fn tls_to_wire(tls: &TlsSettings) -> wire::TlsSettings {
    let mode = match tls.mode {
        TlsMode::Disable => wire::TlsMode::Disable,
        TlsMode::Simple => wire::TlsMode::Simple,
        TlsMode::Mutual => wire::TlsMode::Mutual,
        TlsMode::IstioMutual => wire::TlsMode::IstioMutual,
    };
    wire::TlsSettings {
        mode: mode.into(),
        sni: tls.sni.clone().unwrap_or_default(),
        subject_alt_names: tls.subject_alt_names.clone(),
        ca_certificates: tls.ca_certificates.clone().unwrap_or_default(),
        client_certificate: tls.client_certificate.clone().unwrap_or_default(),
        private_key: tls.private_key.clone().unwrap_or_default(),
    }
}

fn tls_from_wire(tls: wire::TlsSettings) -> Result<TlsSettings, WireError> {
    let mode = match enumeration("mode", tls.mode)? {
        wire::TlsMode::Unspecified => return Err(unspecified("mode")),
        wire::TlsMode::Disable => TlsMode::Disable,
        wire::TlsMode::Simple => TlsMode::Simple,
        wire::TlsMode::Mutual => TlsMode::Mutual,
        wire::TlsMode::IstioMutual => TlsMode::IstioMutual,
    };
    Ok(TlsSettings {
        mode,
        sni: optional_text(tls.sni),
        subject_alt_names: tls.subject_alt_names,
        ca_certificates: optional_text(tls.ca_certificates),
        client_certificate: optional_text(tls.client_certificate),
        private_key: optional_text(tls.private_key),
    })
}

impl From<&Named<DestinationRuleSpec>> for v1::DestinationRule {
    fn from(rule: &Named<DestinationRuleSpec>) -> Self {
        let ports = &rule.spec.port_level_tls;
        Self {
            meta: meta(&rule.meta),
            host: rule.spec.host.clone(),
            tls: rule.spec.tls.as_ref().map(tls_to_wire),
            port_level_tls: ports.iter().map(|(port, tls)| (u32::from(*port), tls_to_wire(tls))).collect(),
        }
    }
}

impl TryFrom<v1::DestinationRule> for Named<DestinationRuleSpec> {
    type Error = WireError;

    fn try_from(rule: v1::DestinationRule) -> Result<Self, WireError> {
        let tls = rule.tls.map(tls_from_wire).transpose().map_err(|error| error.within("tls"))?;
        let port_level_tls = each_port("port_level_tls", rule.port_level_tls, tls_from_wire)?;
        named(rule.meta, DestinationRuleSpec { host: rule.host, tls, port_level_tls })
    }
}
