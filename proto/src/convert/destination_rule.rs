use palisade_policy::kind::destination_rule::{
    PortSettings, RetryBudget, Settings, Subset, TlsMode, TlsSettings, TrafficPolicy,
};
use palisade_policy::kind::{DestinationRuleSpec, Named};

use super::WireError;
use super::destination_rule_parts::{
    balancer_from_wire, balancer_to_wire, outliers_from_wire, outliers_to_wire, pool_from_wire, pool_to_wire,
};
use super::scalar::{each, enumeration, meta, named, optional_text, port, unspecified};
use crate::v1;
use crate::v1::destination_rule as wire;

impl From<&Named<DestinationRuleSpec>> for v1::DestinationRule {
    fn from(rule: &Named<DestinationRuleSpec>) -> Self {
        let spec = &rule.spec;
        Self {
            meta: meta(&rule.meta),
            host: spec.host.clone(),
            policy: Some(policy_to_wire(&spec.policy)),
            subsets: spec.subsets.iter().map(subset_to_wire).collect(),
        }
    }
}

impl TryFrom<v1::DestinationRule> for Named<DestinationRuleSpec> {
    type Error = WireError;

    fn try_from(rule: v1::DestinationRule) -> Result<Self, WireError> {
        let policy = policy_from_wire(rule.policy.unwrap_or_default())?;
        let subsets = each("subsets", rule.subsets, subset_from_wire)?;
        named(rule.meta, DestinationRuleSpec { host: rule.host, policy, subsets })
    }
}

fn subset_to_wire(subset: &Subset) -> wire::Subset {
    wire::Subset {
        name: subset.name.clone(),
        labels: subset.labels.clone(),
        policy: Some(policy_to_wire(&subset.policy)),
    }
}

fn subset_from_wire(subset: wire::Subset) -> Result<Subset, WireError> {
    let policy = policy_from_wire(subset.policy.unwrap_or_default())?;
    Ok(Subset { name: subset.name, labels: subset.labels, policy })
}

fn policy_to_wire(policy: &TrafficPolicy) -> wire::TrafficPolicy {
    let port = |port: &PortSettings| wire::PortSettings {
        port: port.port.into(),
        settings: Some(settings_to_wire(&port.settings)),
    };
    wire::TrafficPolicy {
        settings: Some(settings_to_wire(&policy.settings)),
        ports: policy.ports.iter().map(port).collect(),
        retry_budget: policy.retry_budget.map(|budget| wire::RetryBudget {
            percent_ppm: budget.percent_ppm,
            min_retry_concurrency: budget.min_retry_concurrency,
        }),
    }
}

fn policy_from_wire(policy: wire::TrafficPolicy) -> Result<TrafficPolicy, WireError> {
    let settings = settings_from_wire(policy.settings).map_err(|error| error.within("policy.settings"))?;
    Ok(TrafficPolicy {
        settings: Box::new(settings),
        ports: each("policy.ports", policy.ports, port_from_wire)?,
        retry_budget: policy.retry_budget.map(|budget| RetryBudget {
            percent_ppm: budget.percent_ppm,
            min_retry_concurrency: budget.min_retry_concurrency,
        }),
    })
}

fn port_from_wire(of: wire::PortSettings) -> Result<PortSettings, WireError> {
    let settings = settings_from_wire(of.settings).map_err(|error| error.within("settings"))?;
    Ok(PortSettings { port: port("port", of.port)?, settings })
}

fn settings_to_wire(settings: &Settings) -> wire::Settings {
    wire::Settings {
        load_balancer: settings.load_balancer.as_ref().map(balancer_to_wire),
        connection_pool: settings.connection_pool.as_ref().map(pool_to_wire),
        outliers: settings.outliers.as_ref().map(outliers_to_wire),
        tls: settings.tls.as_ref().map(tls_to_wire),
    }
}

fn settings_from_wire(settings: Option<wire::Settings>) -> Result<Settings, WireError> {
    let wire::Settings { load_balancer, connection_pool, outliers, tls } = settings.unwrap_or_default();
    let balancer = load_balancer.map(balancer_from_wire).transpose();
    Ok(Settings {
        load_balancer: balancer.map_err(|error| error.within("load_balancer"))?,
        connection_pool: connection_pool.map(pool_from_wire),
        outliers: outliers.as_ref().map(outliers_from_wire),
        tls: tls.map(tls_from_wire).transpose().map_err(|error| error.within("tls"))?,
    })
}

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
