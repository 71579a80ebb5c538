//! What a Gateway must be beside well-formed. YAML and wire come through here alike.

use std::collections::BTreeMap;

use super::{
    GatewayHost, GatewayProtocol, GatewayServer, GatewaySpec, GatewayTls, GatewayTlsMode, HSTS_ANNOTATION,
    HostPattern, hsts,
};
use crate::finding::code;
use crate::finding::problem::Problems;
use crate::kind::{Meta, Named};

pub(crate) fn check(meta: &Meta, spec: &GatewaySpec, problems: &mut Problems) {
    if spec.selector.is_empty() {
        let message = "a Gateway without a selector would open every edge of the namespace";
        problems.error(code::GATEWAY_SELECTOR, "spec.selector", message);
        problems.help("write the edge's labels, for example selector: {app: edge}");
    }
    if spec.servers.is_empty() {
        problems.error(code::MISSING_FIELD, "spec.servers", "a Gateway has at least one server");
    }
    if let Err(message) = hsts(meta) {
        problems.error(code::GATEWAY_TLS, format!("metadata.annotations.{HSTS_ANNOTATION}"), message);
    }
    for (i, server) in spec.servers.iter().enumerate() {
        check_server(server, &format!("spec.servers[{i}]"), problems);
    }
    let itself = [Named { meta: meta.clone(), spec: spec.clone() }];
    for Conflict { server, message, .. } in conflicts(&itself) {
        problems.error(code::GATEWAY_CONFLICT, format!("spec.servers[{server}]"), message);
    }
}

fn check_server(server: &GatewayServer, path: &str, problems: &mut Problems) {
    if server.port.number == 0 {
        let path = format!("{path}.port.number");
        problems.error(code::BAD_PORT, path, "0 is no port; ports are 1 to 65535");
    }
    if server.hosts.is_empty() {
        problems.error(code::MISSING_FIELD, format!("{path}.hosts"), "a server has at least one host");
    }
    for (i, host) in server.hosts.iter().enumerate() {
        if GatewayHost::parse(host).is_none() {
            let message = format!("{host:?} is no host of a Gateway");
            problems.error(code::BAD_HOST, format!("{path}.hosts[{i}]"), message);
            problems
                .help("write name, *.name or *, in lower case, with an optional \"namespace/\" before it");
        }
    }
    let tls = server.tls.clone().unwrap_or_default();
    match server.port.protocol {
        GatewayProtocol::Https => check_tls(&tls, &format!("{path}.tls"), problems),
        GatewayProtocol::Http | GatewayProtocol::Http2 => {
            let plain = GatewayTls { https_redirect: tls.https_redirect, ..GatewayTls::default() };
            if tls != plain {
                let message =
                    "a server in plaintext has no certificate, yet tls says more than httpsRedirect";
                problems.error(code::GATEWAY_TLS, format!("{path}.tls"), message);
                problems.help("write protocol: HTTPS, or keep httpsRedirect alone");
            }
        }
    }
}

fn check_tls(tls: &GatewayTls, path: &str, problems: &mut Problems) {
    let mut wrong = |message: &str, help: &str| {
        problems.error(code::GATEWAY_TLS, path, message);
        problems.help(help);
    };
    if tls.https_redirect {
        wrong("httpsRedirect on a server that speaks TLS leads in circles", "set it on the HTTP server");
    }
    let Some(mode) = tls.mode else {
        wrong(
            "an HTTPS server says how clients are met",
            "write tls.mode: SIMPLE, MUTUAL or OPTIONAL_MUTUAL",
        );
        return;
    };
    let files =
        tls.server_certificate.is_some() || tls.private_key.is_some() || tls.ca_certificates.is_some();
    match &tls.credential_name {
        Some(_) if files => {
            wrong("credentialName and files stand beside each other", "keep one of the two");
        }
        Some(name) if !is_folder_name(name) => {
            wrong("credentialName is no name of a folder", "letters, digits, '.', '-' and '_', at most 253");
        }
        Some(_) => {}
        None => {
            if tls.server_certificate.is_none() || tls.private_key.is_none() {
                let help = "write credentialName, or serverCertificate and privateKey";
                wrong("an HTTPS server has a certificate and its key", help);
            }
            if mode != GatewayTlsMode::Simple && tls.ca_certificates.is_none() {
                wrong("nothing says which authority clients' certificates come from", "add caCertificates");
            }
        }
    }
    if mode == GatewayTlsMode::Simple && tls.ca_certificates.is_some() {
        let help = "write mode: MUTUAL or OPTIONAL_MUTUAL, or leave caCertificates out";
        wrong("SIMPLE asks clients for no certificate, so caCertificates would check nothing", help);
    }
}

/// One component of a path, and not a way out of the folder.
fn is_folder_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    (1..=253).contains(&name.len()) && name.bytes().all(allowed) && !name.starts_with('.')
}

/// Two servers that one edge cannot have at once.
#[derive(Debug)]
pub(crate) struct Conflict {
    /// Index of the later Gateway, and of its server.
    pub(crate) gateway: usize,
    pub(crate) server: usize,
    pub(crate) message: String,
}

/// What the Gateways of one edge may not have: a port in TLS and in plaintext, or a host of a port in two servers.
pub(crate) fn conflicts(gateways: &[Named<GatewaySpec>]) -> Vec<Conflict> {
    let mut ports: BTreeMap<u16, (bool, String)> = BTreeMap::new();
    let mut hosts: BTreeMap<(u16, HostPattern), String> = BTreeMap::new();
    let mut out = Vec::new();
    for (gateway, Named { meta, spec }) in gateways.iter().enumerate() {
        for (server, written) in spec.servers.iter().enumerate() {
            let number = written.port.number;
            let here = format!("server {server} of {}/{}", meta.namespace, meta.name);
            let tls = written.port.protocol == GatewayProtocol::Https;
            let (first_tls, first) = ports.entry(number).or_insert_with(|| (tls, here.clone()));
            if *first_tls != tls {
                let message =
                    format!("{first} has the port {number} in TLS or plaintext, this one otherwise");
                out.push(Conflict { gateway, server, message });
            }
            for host in written.hosts.iter().filter_map(|text| GatewayHost::parse(text)) {
                match hosts.get(&(number, host.pattern.clone())) {
                    Some(first) if *first != here => {
                        let message = format!("a host of port {number} is in {first} already");
                        out.push(Conflict { gateway, server, message });
                    }
                    Some(_) => {}
                    None => {
                        hosts.insert((number, host.pattern), here.clone());
                    }
                }
            }
        }
    }
    out
}
