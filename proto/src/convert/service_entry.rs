use palisade_policy::kind::service_entry::{EntryEndpoint, EntryPort, Location, Resolution};
use palisade_policy::kind::{Named, ServiceEntrySpec};

use super::WireError;
use super::scalar::{
    each, enumeration, meta, named, optional_port, optional_text, port, protocol, unspecified,
};
use crate::v1;
use crate::v1::service_entry as wire;

impl From<&Named<ServiceEntrySpec>> for v1::ServiceEntry {
    fn from(entry: &Named<ServiceEntrySpec>) -> Self {
        let spec = &entry.spec;
        let location = match spec.location {
            Location::MeshExternal => wire::Location::MeshExternal,
            Location::MeshInternal => wire::Location::MeshInternal,
        };
        let resolution = match spec.resolution {
            Resolution::Static => wire::Resolution::Static,
            Resolution::Dns => wire::Resolution::Dns,
        };
        Self {
            meta: meta(&entry.meta),
            hosts: spec.hosts.clone(),
            ports: spec.ports.iter().map(port_to_wire).collect(),
            location: location.into(),
            resolution: resolution.into(),
            endpoints: spec.endpoints.iter().map(endpoint_to_wire).collect(),
            subject_alt_names: spec.subject_alt_names.clone(),
            export_to: spec.export_to.clone(),
        }
    }
}

fn port_to_wire(port: &EntryPort) -> wire::Port {
    wire::Port {
        number: port.number.into(),
        name: port.name.clone(),
        protocol: v1::Protocol::from(port.protocol).into(),
        target_port: port.target_port.unwrap_or(0).into(),
        tls: port.tls,
    }
}

fn endpoint_to_wire(endpoint: &EntryEndpoint) -> wire::Endpoint {
    wire::Endpoint {
        address: endpoint.address.clone(),
        ports: endpoint.ports.iter().map(|(name, port)| (name.clone(), u32::from(*port))).collect(),
        labels: endpoint.labels.clone(),
        service_account: endpoint.service_account.clone().unwrap_or_default(),
        weight: Some(endpoint.weight),
    }
}

impl TryFrom<v1::ServiceEntry> for Named<ServiceEntrySpec> {
    type Error = WireError;

    fn try_from(entry: v1::ServiceEntry) -> Result<Self, WireError> {
        let location = match enumeration("location", entry.location)? {
            wire::Location::Unspecified => return Err(unspecified("location")),
            wire::Location::MeshExternal => Location::MeshExternal,
            wire::Location::MeshInternal => Location::MeshInternal,
        };
        let resolution = match enumeration("resolution", entry.resolution)? {
            wire::Resolution::Unspecified => return Err(unspecified("resolution")),
            wire::Resolution::Static => Resolution::Static,
            wire::Resolution::Dns => Resolution::Dns,
        };
        let spec = ServiceEntrySpec {
            hosts: entry.hosts,
            ports: each("ports", entry.ports, port_from_wire)?,
            location,
            resolution,
            endpoints: each("endpoints", entry.endpoints, endpoint_from_wire)?,
            subject_alt_names: entry.subject_alt_names,
            export_to: entry.export_to,
        };
        named(entry.meta, spec)
    }
}

fn port_from_wire(wire: wire::Port) -> Result<EntryPort, WireError> {
    Ok(EntryPort {
        number: port("number", wire.number)?,
        name: wire.name,
        protocol: protocol(wire.protocol)?,
        target_port: optional_port("target_port", wire.target_port)?,
        tls: wire.tls,
    })
}

fn endpoint_from_wire(wire: wire::Endpoint) -> Result<EntryEndpoint, WireError> {
    let ports = wire.ports.into_iter().map(|(name, number)| {
        let field = format!("ports[{name}]");
        Ok((name, port(&field, number)?))
    });
    Ok(EntryEndpoint {
        address: wire.address,
        ports: ports.collect::<Result<_, WireError>>()?,
        labels: wire.labels,
        service_account: optional_text(wire.service_account),
        weight: wire.weight.unwrap_or(1),
    })
}
