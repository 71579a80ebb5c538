//! From YAML to the spec.

use super::{
    GatewayPort, GatewayProtocol, GatewayServer, GatewaySpec, GatewayTls, GatewayTlsMode, TlsVersion,
};
use crate::document::reader::{At, Reader};
use crate::finding::code;
use crate::kind::Selector;

const SERVER_UNSUPPORTED: &[(&str, &str)] = &[
    ("bind", "the edge's --listen says where a port is bound"),
    ("defaultEndpoint", "write a VirtualService"),
];

const TLS_UNSUPPORTED: &[(&str, &str)] = &[
    ("maxProtocolVersion", "leave it out: TLS 1.3 is always offered"),
    ("cipherSuites", "leave it out: only AEAD suites with forward secrecy are offered"),
    ("subjectAltNames", "write an AuthorizationPolicy, or take an authority of your own in caCertificates"),
    ("verifyCertificateSpki", "take an authority of your own in caCertificates"),
    ("verifyCertificateHash", "take an authority of your own in caCertificates"),
    ("caCrl", "let the authority issue certificates that live shortly"),
    ("credentialNames", "write one credentialName"),
    ("caCertCredentialName", "put ca.crt beside tls.crt in the folder of credentialName"),
    ("workloadSelector", "write selector at the top of the spec"),
];

const PROTOCOLS: &[(&str, GatewayProtocol)] =
    &[("HTTP", GatewayProtocol::Http), ("HTTP2", GatewayProtocol::Http2), ("HTTPS", GatewayProtocol::Https)];

const MODES: &[(&str, GatewayTlsMode)] = &[
    ("SIMPLE", GatewayTlsMode::Simple),
    ("MUTUAL", GatewayTlsMode::Mutual),
    ("OPTIONAL_MUTUAL", GatewayTlsMode::OptionalMutual),
];

/// Istio's `TLS_AUTO` is what the proxy takes by default, which is 1.2 there too.
const VERSIONS: &[(&str, TlsVersion)] =
    &[("TLSV1_2", TlsVersion::V1_2), ("TLSV1_3", TlsVersion::V1_3), ("TLS_AUTO", TlsVersion::V1_2)];

pub(crate) fn read(reader: &mut Reader<'_>, at: &At<'_>) -> Option<GatewaySpec> {
    let mut fields = reader.mapping(at)?;
    // Istio writes the labels of a Gateway without matchLabels.
    let selector: Selector = reader.text_map(fields.take("selector"));
    let servers = fields.take("servers");
    if servers.is_none() {
        let help =
            "for example: servers: [{port: {number: 443, name: https, protocol: HTTPS}, hosts: [...]}]";
        reader.missing(&fields, "servers", help);
    }
    let servers = servers.map(|at| reader.items(&at)).unwrap_or_default();
    let servers = servers.iter().filter_map(|at| read_server(reader, at)).collect();
    reader.finish(fields, &[]);
    Some(GatewaySpec { selector, servers })
}

fn read_server(reader: &mut Reader<'_>, at: &At<'_>) -> Option<GatewayServer> {
    let mut fields = reader.mapping(at)?;
    let name = fields.take("name").and_then(|at| reader.text(&at));
    let port = match fields.take("port") {
        Some(at) => read_port(reader, &at),
        None => {
            reader.missing(&fields, "port", "for example: port: {number: 443, name: https, protocol: HTTPS}");
            None
        }
    };
    let hosts = fields.take("hosts");
    if hosts.is_none() {
        reader.missing(&fields, "hosts", "name the hosts that clients ask for, or write [\"*\"]");
    }
    let hosts = reader.texts(hosts);
    // A TLS section that cannot be read must not become a server without one.
    let tls = fields.take("tls").map(|at| read_tls(reader, &at));
    reader.finish(fields, SERVER_UNSUPPORTED);
    let tls = match tls {
        Some(tls) => Some(tls?),
        None => None,
    };
    Some(GatewayServer { name, port: port?, hosts, tls })
}

fn read_port(reader: &mut Reader<'_>, at: &At<'_>) -> Option<GatewayPort> {
    let mut fields = reader.mapping(at)?;
    let number = match fields.take("number") {
        Some(at) => reader.port(&at),
        None => {
            reader.missing(&fields, "number", "the port that clients use");
            None
        }
    };
    let name = match fields.take("name") {
        Some(at) => reader.text(&at),
        None => {
            reader.missing(&fields, "name", "for example: name: https");
            None
        }
    };
    let protocol = match fields.take("protocol") {
        Some(at) => read_protocol(reader, &at),
        None => {
            reader.missing(&fields, "protocol", "one of HTTP, HTTP2, HTTPS");
            None
        }
    };
    reader.finish(fields, &[("targetPort", "the edge's --listen says where a port is bound")]);
    Some(GatewayPort { number: number?, name: name?, protocol: protocol? })
}

fn read_protocol(reader: &mut Reader<'_>, at: &At<'_>) -> Option<GatewayProtocol> {
    let help = match reader.text(at)?.as_str() {
        "TCP" | "TLS" | "MONGO" => "the edge serves HTTP only; write HTTPS",
        "GRPC" => "write HTTPS, or HTTP2 for plaintext: gRPC is served on both",
        _ => return reader.choice(at, PROTOCOLS),
    };
    let message = "this protocol is not taken at the edge";
    reader.error(code::UNSUPPORTED_FIELD, at.mark(), &at.path, message, Some(help.into()));
    None
}

fn read_tls(reader: &mut Reader<'_>, at: &At<'_>) -> Option<GatewayTls> {
    let mut fields = reader.mapping(at)?;
    let https_redirect = match fields.take("httpsRedirect") {
        Some(at) => reader.boolean(&at),
        None => Some(false),
    };
    let mode = match fields.take("mode") {
        Some(at) => read_mode(reader, &at).map(Some),
        None => Some(None),
    };
    let min_protocol_version = match fields.take("minProtocolVersion") {
        Some(at) => read_version(reader, &at),
        None => Some(TlsVersion::default()),
    };
    let mut text = |name| fields.take(name).and_then(|at| reader.text(&at));
    let tls = GatewayTls {
        credential_name: text("credentialName"),
        server_certificate: text("serverCertificate"),
        private_key: text("privateKey"),
        ca_certificates: text("caCertificates"),
        ..GatewayTls::default()
    };
    reader.finish(fields, TLS_UNSUPPORTED);
    Some(GatewayTls {
        https_redirect: https_redirect?,
        mode: mode?,
        min_protocol_version: min_protocol_version?,
        ..tls
    })
}

fn read_mode(reader: &mut Reader<'_>, at: &At<'_>) -> Option<GatewayTlsMode> {
    let help = match reader.text(at)?.as_str() {
        "PASSTHROUGH" | "AUTO_PASSTHROUGH" => {
            "TLS ends at the edge, or nothing could be checked; write SIMPLE"
        }
        "ISTIO_MUTUAL" => "services of the mesh call each other's sidecars, not the edge; write MUTUAL",
        _ => return reader.choice(at, MODES),
    };
    reader.error(code::UNSUPPORTED_FIELD, at.mark(), &at.path, "this mode is not taken", Some(help.into()));
    None
}

fn read_version(reader: &mut Reader<'_>, at: &At<'_>) -> Option<TlsVersion> {
    match reader.text(at)?.as_str() {
        "TLSV1_0" | "TLSV1_1" => {
            let help = Some("RFC 8996 forbids it; write TLSV1_2 or TLSV1_3".to_owned());
            reader.error(code::UNSUPPORTED_FIELD, at.mark(), &at.path, "this version is not spoken", help);
            None
        }
        _ => reader.choice(at, VERSIONS),
    }
}
