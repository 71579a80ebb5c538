use palisade_policy::kind::gateway::{
    GatewayPort, GatewayProtocol, GatewayServer, GatewayTls, GatewayTlsMode, TlsVersion,
};
use palisade_policy::kind::{GatewaySpec, Named};

use super::WireError;
use super::scalar::{each, enumeration, meta, named, optional_text, port, unspecified};
use crate::v1;
use crate::v1::gateway as wire;

impl From<&Named<GatewaySpec>> for v1::Gateway {
    fn from(gateway: &Named<GatewaySpec>) -> Self {
        Self {
            meta: meta(&gateway.meta),
            selector: gateway.spec.selector.clone(),
            servers: gateway.spec.servers.iter().map(server_to_wire).collect(),
        }
    }
}

fn server_to_wire(server: &GatewayServer) -> wire::Server {
    let protocol = match server.port.protocol {
        GatewayProtocol::Http => wire::Protocol::Http,
        GatewayProtocol::Http2 => wire::Protocol::Http2,
        GatewayProtocol::Https => wire::Protocol::Https,
    };
    wire::Server {
        name: server.name.clone().unwrap_or_default(),
        port: server.port.number.into(),
        port_name: server.port.name.clone(),
        protocol: protocol.into(),
        hosts: server.hosts.clone(),
        tls: server.tls.as_ref().map(tls_to_wire),
    }
}

fn tls_to_wire(tls: &GatewayTls) -> wire::Tls {
    let mode = match tls.mode {
        None => wire::TlsMode::Unspecified,
        Some(GatewayTlsMode::Simple) => wire::TlsMode::Simple,
        Some(GatewayTlsMode::Mutual) => wire::TlsMode::Mutual,
        Some(GatewayTlsMode::OptionalMutual) => wire::TlsMode::OptionalMutual,
    };
    let version = match tls.min_protocol_version {
        TlsVersion::V1_2 => wire::TlsVersion::TlsVersion12,
        TlsVersion::V1_3 => wire::TlsVersion::TlsVersion13,
    };
    wire::Tls {
        https_redirect: tls.https_redirect,
        mode: mode.into(),
        credential_name: tls.credential_name.clone().unwrap_or_default(),
        server_certificate: tls.server_certificate.clone().unwrap_or_default(),
        private_key: tls.private_key.clone().unwrap_or_default(),
        ca_certificates: tls.ca_certificates.clone().unwrap_or_default(),
        min_protocol_version: version.into(),
    }
}

impl TryFrom<v1::Gateway> for Named<GatewaySpec> {
    type Error = WireError;

    fn try_from(gateway: v1::Gateway) -> Result<Self, WireError> {
        let servers = each("servers", gateway.servers, server_from_wire)?;
        named(gateway.meta, GatewaySpec { selector: gateway.selector, servers })
    }
}

fn server_from_wire(server: wire::Server) -> Result<GatewayServer, WireError> {
    let protocol = match enumeration("protocol", server.protocol)? {
        wire::Protocol::Unspecified => return Err(unspecified("protocol")),
        wire::Protocol::Http => GatewayProtocol::Http,
        wire::Protocol::Http2 => GatewayProtocol::Http2,
        wire::Protocol::Https => GatewayProtocol::Https,
    };
    let tls = server.tls.map(tls_from_wire).transpose().map_err(|error| error.within("tls"))?;
    Ok(GatewayServer {
        name: optional_text(server.name),
        port: GatewayPort { number: port("port", server.port)?, name: server.port_name, protocol },
        hosts: server.hosts,
        tls,
    })
}

fn tls_from_wire(tls: wire::Tls) -> Result<GatewayTls, WireError> {
    let mode = match enumeration("mode", tls.mode)? {
        wire::TlsMode::Unspecified => None,
        wire::TlsMode::Simple => Some(GatewayTlsMode::Simple),
        wire::TlsMode::Mutual => Some(GatewayTlsMode::Mutual),
        wire::TlsMode::OptionalMutual => Some(GatewayTlsMode::OptionalMutual),
    };
    let min_protocol_version = match enumeration("min_protocol_version", tls.min_protocol_version)? {
        wire::TlsVersion::Unspecified => return Err(unspecified("min_protocol_version")),
        wire::TlsVersion::TlsVersion12 => TlsVersion::V1_2,
        wire::TlsVersion::TlsVersion13 => TlsVersion::V1_3,
    };
    Ok(GatewayTls {
        https_redirect: tls.https_redirect,
        mode,
        credential_name: optional_text(tls.credential_name),
        server_certificate: optional_text(tls.server_certificate),
        private_key: optional_text(tls.private_key),
        ca_certificates: optional_text(tls.ca_certificates),
        min_protocol_version,
    })
}
