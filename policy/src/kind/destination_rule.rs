//! DestinationRule, networking.istio.io/v1. This version takes `trafficPolicy.tls` and `portLevelSettings[].tls`;
//! every other field is refused by name.

use std::collections::BTreeMap;

use super::service_entry::valid_host;
use crate::document::reader::{At, Reader};
use crate::finding::code;
use crate::finding::problem::Problems;

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

const MODES: &[(&str, TlsMode)] = &[
    ("DISABLE", TlsMode::Disable),
    ("SIMPLE", TlsMode::Simple),
    ("MUTUAL", TlsMode::Mutual),
    ("ISTIO_MUTUAL", TlsMode::IstioMutual),
];

const SPEC_UNSUPPORTED: &[(&str, &str)] = &[
    ("subsets", "there are no route rules that could name a subset; leave it out"),
    ("exportTo", "a rule holds for callers of its own namespace, of the host's and, from the root, of all"),
    ("workloadSelector", "a rule holds for every caller of its namespace; leave it out"),
];

const POLICY_UNSUPPORTED: &[(&str, &str)] = &[
    ("loadBalancer", "leave it out: the proxy balances over healthy endpoints by itself"),
    ("connectionPool", "leave it out: pool sizes are the proxy's own limits"),
    ("outlierDetection", "leave it out: this version does not eject endpoints"),
    ("retryBudget", "leave it out: this version repeats only requests that were never sent"),
    ("tunnel", "leave it out"),
    ("proxyProtocol", "leave it out"),
];

const TLS_UNSUPPORTED: &[(&str, &str)] = &[
    ("credentialName", "there are no Kubernetes secrets here; name files in caCertificates and the like"),
    ("insecureSkipVerify", "a server is always checked; name its roots in caCertificates"),
    ("caCrl", "revocation lists are not read; leave it out"),
];

pub(crate) fn read(reader: &mut Reader<'_>, at: &At<'_>) -> Option<DestinationRuleSpec> {
    let mut fields = reader.mapping(at)?;
    let host = match fields.take("host") {
        Some(at) => reader.text(&at),
        None => {
            reader.missing(&fields, "host", "name the host that the rule is for");
            None
        }
    };
    let (mut tls, mut port_level_tls) = (None, BTreeMap::new());
    if let Some(mut policy) = fields.take("trafficPolicy").and_then(|at| reader.mapping(&at)) {
        tls = policy.take("tls").and_then(|at| read_tls(reader, &at));
        let ports = policy.take("portLevelSettings").map(|at| reader.items(&at)).unwrap_or_default();
        for at in ports {
            read_port_level(reader, &at, &mut port_level_tls);
        }
        reader.finish(policy, POLICY_UNSUPPORTED);
    }
    reader.finish(fields, SPEC_UNSUPPORTED);
    Some(DestinationRuleSpec { host: host?, tls, port_level_tls })
}

fn read_port_level(reader: &mut Reader<'_>, at: &At<'_>, out: &mut BTreeMap<u16, TlsSettings>) {
    let Some(mut fields) = reader.mapping(at) else { return };
    let mut number = None;
    match fields.take("port") {
        Some(at) => {
            if let Some(mut port) = reader.mapping(&at) {
                number = port.take("number").and_then(|at| reader.port(&at));
                reader.finish(port, &[]);
            }
        }
        None => reader.missing(&fields, "port", "write port: {number: ...}"),
    }
    let tls = fields.take("tls").and_then(|at| read_tls(reader, &at));
    reader.finish(fields, POLICY_UNSUPPORTED);
    if let (Some(number), Some(tls)) = (number, tls)
        && out.insert(number, tls).is_some()
    {
        let message = format!("the port {number} is already there");
        reader.error(code::DUPLICATE_PORT, at.mark(), &at.path, message, None);
    }
}

fn read_tls(reader: &mut Reader<'_>, at: &At<'_>) -> Option<TlsSettings> {
    let mut fields = reader.mapping(at)?;
    let mode = match fields.take("mode") {
        Some(at) => reader.choice(&at, MODES),
        None => Some(TlsMode::Disable),
    };
    let mut text = |name| fields.take(name).and_then(|at| reader.text(&at));
    let sni = text("sni");
    let ca_certificates = text("caCertificates");
    let client_certificate = text("clientCertificate");
    let private_key = text("privateKey");
    let subject_alt_names = reader.texts(fields.take("subjectAltNames"));
    reader.finish(fields, TLS_UNSUPPORTED);
    Some(TlsSettings {
        mode: mode?,
        sni,
        subject_alt_names,
        ca_certificates,
        client_certificate,
        private_key,
    })
}

pub(crate) fn check(spec: &DestinationRuleSpec, problems: &mut Problems) {
    if !valid_host(&spec.host) {
        problems.error(code::BAD_HOST, "spec.host", format!("{:?} is no host name", spec.host));
        problems.help("write one host in lower case, without wildcard, port and trailing dot");
    }
    if let Some(tls) = &spec.tls {
        check_tls(tls, "spec.trafficPolicy.tls", problems);
    }
    for (port, tls) in &spec.port_level_tls {
        let path = "spec.trafficPolicy.portLevelSettings";
        if *port == 0 {
            problems.error(code::BAD_PORT, path, "0 is no port; ports are 1 to 65535");
        }
        check_tls(tls, path, problems);
    }
}

fn check_tls(tls: &TlsSettings, path: &str, problems: &mut Problems) {
    let client = tls.client_certificate.is_some() || tls.private_key.is_some();
    let server = tls.ca_certificates.is_some() || tls.sni.is_some() || !tls.subject_alt_names.is_empty();
    let message = match tls.mode {
        TlsMode::Disable if client || server => "DISABLE takes no other field",
        TlsMode::Simple if client => "SIMPLE sends no client certificate; write MUTUAL",
        TlsMode::Mutual if tls.client_certificate.is_none() || tls.private_key.is_none() => {
            "MUTUAL needs clientCertificate and privateKey"
        }
        TlsMode::IstioMutual if client || server => {
            "ISTIO_MUTUAL uses the workload's own identity and takes no other field"
        }
        _ => "",
    };
    if !message.is_empty() {
        problems.error(code::TLS_FIELDS, path, message);
    }
    let names = tls.sni.iter().chain(&tls.subject_alt_names);
    for name in names.filter(|n| !valid_host(n)) {
        problems.error(code::BAD_HOST, path, format!("{name:?} is no host name"));
        problems.help("servers outside the mesh are checked for DNS names, written in lower case");
    }
}
