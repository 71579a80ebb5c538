//! `tls`: how a connection to a server is secured.

use super::super::service_entry::valid_host;
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

const MODES: &[(&str, TlsMode)] = &[
    ("DISABLE", TlsMode::Disable),
    ("SIMPLE", TlsMode::Simple),
    ("MUTUAL", TlsMode::Mutual),
    ("ISTIO_MUTUAL", TlsMode::IstioMutual),
];

const UNSUPPORTED: &[(&str, &str)] = &[
    ("credentialName", "there are no Kubernetes secrets here; name files in caCertificates and the like"),
    ("insecureSkipVerify", "a server is always checked; name its roots in caCertificates"),
    ("caCrl", "revocation lists are not read; leave it out"),
];

impl TlsMode {
    /// As documents write it.
    pub fn name(self) -> &'static str {
        MODES.iter().find(|(_, mode)| *mode == self).map(|(name, _)| *name).unwrap_or_default()
    }
}

pub(super) fn read(reader: &mut Reader<'_>, at: &At<'_>) -> Option<TlsSettings> {
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
    reader.finish(fields, UNSUPPORTED);
    Some(TlsSettings {
        mode: mode?,
        sni,
        subject_alt_names,
        ca_certificates,
        client_certificate,
        private_key,
    })
}

pub(super) fn check(tls: &TlsSettings, path: &str, problems: &mut Problems) {
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
