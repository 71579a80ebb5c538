//! From YAML to the spec.

use std::collections::BTreeMap;

use super::{EntryEndpoint, EntryPort, Location, Protocol, Resolution, ServiceEntrySpec};
use crate::document::reader::{At, Reader};
use crate::finding::code;

const UNSUPPORTED: &[(&str, &str)] = &[
    ("addresses", "destinations are found by host here; leave virtual addresses out"),
    ("workloadSelector", "name the endpoints; instances with a join token register themselves"),
];

const ENDPOINT_UNSUPPORTED: &[(&str, &str)] = &[
    ("network", "there is one network; leave it out"),
    ("locality", "endpoints are not chosen by locality; leave it out"),
];

const LOCATIONS: &[(&str, Location)] =
    &[("MESH_EXTERNAL", Location::MeshExternal), ("MESH_INTERNAL", Location::MeshInternal)];

/// Istio's words, with whether HTTP comes in TLS. TLS and MONGO and the like are bytes to us, as in Istio.
const PROTOCOLS: &[(&str, (Protocol, bool))] = &[
    ("HTTP", (Protocol::Http, false)),
    ("HTTP2", (Protocol::Http2, false)),
    ("GRPC", (Protocol::Grpc, false)),
    ("HTTPS", (Protocol::Http, true)),
    ("TCP", (Protocol::Tcp, false)),
    ("TLS", (Protocol::Tcp, false)),
];

pub(crate) fn read(reader: &mut Reader<'_>, at: &At<'_>) -> Option<ServiceEntrySpec> {
    let mut fields = reader.mapping(at)?;
    let hosts = fields.take("hosts");
    if hosts.is_none() {
        reader.missing(&fields, "hosts", "name the hosts that callers use");
    }
    let hosts = reader.texts(hosts);
    let ports = fields.take("ports");
    if ports.is_none() {
        reader.missing(&fields, "ports", "for example: ports: [{number: 443, name: https, protocol: HTTPS}]");
    }
    let ports = ports.map(|at| reader.items(&at)).unwrap_or_default();
    let ports = ports.iter().filter_map(|at| read_port(reader, at)).collect();
    let location = match fields.take("location") {
        Some(at) => reader.choice(&at, LOCATIONS),
        None => Some(Location::MeshExternal),
    };
    let resolution = match fields.take("resolution") {
        Some(at) => read_resolution(reader, &at),
        None => {
            reader.missing(&fields, "resolution", "write STATIC or DNS; Istio's default NONE is not taken");
            None
        }
    };
    let endpoints = fields.take("endpoints").map(|at| reader.items(&at)).unwrap_or_default();
    let endpoints = endpoints.iter().filter_map(|at| read_endpoint(reader, at)).collect();
    let subject_alt_names = reader.texts(fields.take("subjectAltNames"));
    let export_to = reader.texts(fields.take("exportTo"));
    reader.finish(fields, UNSUPPORTED);
    let (location, resolution) = (location?, resolution?);
    Some(ServiceEntrySpec { hosts, ports, location, resolution, endpoints, subject_alt_names, export_to })
}

fn read_resolution(reader: &mut Reader<'_>, at: &At<'_>) -> Option<Resolution> {
    let help = match reader.text(at)?.as_str() {
        "NONE" => "write STATIC with endpoints, or DNS; a proxy calls only what it was told of",
        "DNS_ROUND_ROBIN" => "write DNS",
        "DYNAMIC_DNS" => "write DNS with the hosts one by one",
        _ => return reader.choice(at, &[("STATIC", Resolution::Static), ("DNS", Resolution::Dns)]),
    };
    reader.error(
        code::UNSUPPORTED_FIELD,
        at.mark(),
        &at.path,
        "this resolution is not taken",
        Some(help.into()),
    );
    None
}

fn read_port(reader: &mut Reader<'_>, at: &At<'_>) -> Option<EntryPort> {
    let mut fields = reader.mapping(at)?;
    let number = match fields.take("number") {
        Some(at) => reader.port(&at),
        None => {
            reader.missing(&fields, "number", "the port that callers use");
            None
        }
    };
    let name = match fields.take("name") {
        Some(at) => reader.text(&at),
        None => {
            reader.missing(&fields, "name", "for example: name: http");
            None
        }
    };
    let protocol = match fields.take("protocol") {
        Some(at) => reader.choice(&at, PROTOCOLS),
        None => {
            reader.missing(&fields, "protocol", "one of HTTP, HTTP2, GRPC, HTTPS, TCP, TLS");
            None
        }
    };
    let target_port = fields.take("targetPort").and_then(|at| reader.port(&at));
    reader.finish(fields, &[]);
    let (protocol, tls) = protocol?;
    Some(EntryPort { number: number?, name: name?, protocol, tls, target_port })
}

fn read_endpoint(reader: &mut Reader<'_>, at: &At<'_>) -> Option<EntryEndpoint> {
    let mut fields = reader.mapping(at)?;
    let address = match fields.take("address") {
        Some(at) => reader.text(&at),
        None => {
            reader.missing(&fields, "address", "an IP address, or with resolution DNS a host name");
            None
        }
    };
    let mut ports = BTreeMap::new();
    if let Some(at) = fields.take("ports") {
        for (name, at) in reader.entries(&at) {
            if let Some(port) = reader.port(&at) {
                ports.insert(name.to_owned(), port);
            }
        }
    }
    let labels = reader.text_map(fields.take("labels"));
    let service_account = fields.take("serviceAccount").and_then(|at| reader.text(&at));
    let weight = match fields.take("weight") {
        Some(at) => read_weight(reader, &at),
        None => Some(1),
    };
    reader.finish(fields, ENDPOINT_UNSUPPORTED);
    Some(EntryEndpoint { address: address?, ports, labels, service_account, weight: weight? })
}

/// What is too large for the type is too large for the range: `check` says so.
fn read_weight(reader: &mut Reader<'_>, at: &At<'_>) -> Option<u32> {
    reader.number(at).map(|number| u32::try_from(number).unwrap_or(u32::MAX))
}
