//! What an entry must be beside well-formed. YAML and wire come through here alike.

use std::collections::BTreeSet;
use std::net::IpAddr;

use palisade_identity::{ServiceAccount, SpiffeId};

use super::{EntryEndpoint, Location, Resolution, ServiceEntrySpec};
use crate::finding::code;
use crate::finding::problem::{Problems, did_you_mean};
use crate::kind::{Meta, exports};

/// A thousand endpoints of it still fit into the sum of 32 bits that balancers keep.
const WEIGHT_MAX: u32 = 1_000_000;

pub(crate) fn check(meta: &Meta, spec: &ServiceEntrySpec, problems: &mut Problems) {
    check_hosts(spec, problems);
    check_ports(spec, problems);
    if spec.resolution == Resolution::Static && spec.endpoints.is_empty() {
        problems.error(
            code::NO_ENDPOINTS,
            "spec.endpoints",
            "a STATIC entry needs the addresses of its endpoints",
        );
        problems.help("list endpoints, or write resolution: DNS");
    }
    for (i, endpoint) in spec.endpoints.iter().enumerate() {
        check_endpoint(spec, endpoint, &format!("spec.endpoints[{i}]"), problems);
    }
    check_identity(meta, spec, problems);
    exports::check(&spec.export_to, problems);
}

fn check_hosts(spec: &ServiceEntrySpec, problems: &mut Problems) {
    if spec.hosts.is_empty() {
        problems.error(code::MISSING_FIELD, "spec.hosts", "an entry has at least one host");
    }
    for (i, host) in spec.hosts.iter().enumerate() {
        if valid_host(host) {
            continue;
        }
        problems.error(code::BAD_HOST, format!("spec.hosts[{i}]"), format!("{host:?} is no host name"));
        if host.contains('*') {
            problems.help("wildcard hosts are not taken; name the hosts one by one");
        } else if did_write_address(host) {
            problems.help("addresses go into endpoints; callers use a name");
        } else {
            problems.help("write lower-case labels joined by dots, without port and trailing dot");
        }
    }
}

fn did_write_address(host: &str) -> bool {
    host.parse::<IpAddr>().is_ok()
}

fn check_ports(spec: &ServiceEntrySpec, problems: &mut Problems) {
    if spec.ports.is_empty() {
        problems.error(code::MISSING_FIELD, "spec.ports", "an entry has at least one port");
    }
    let (mut numbers, mut names) = (BTreeSet::new(), BTreeSet::new());
    for (i, port) in spec.ports.iter().enumerate() {
        if port.number == 0 || port.target_port == Some(0) {
            problems.error(code::BAD_PORT, format!("spec.ports[{i}]"), "0 is no port; ports are 1 to 65535");
        }
        if !numbers.insert(port.number) || !names.insert(port.name.as_str()) {
            let message = format!("the port {} {:?} is already there", port.number, port.name);
            problems.error(code::DUPLICATE_PORT, format!("spec.ports[{i}]"), message);
        }
    }
}

fn check_endpoint(spec: &ServiceEntrySpec, endpoint: &EntryEndpoint, path: &str, problems: &mut Problems) {
    let address = &endpoint.address;
    let is_ip = address.parse::<IpAddr>().is_ok();
    let fits = match spec.resolution {
        Resolution::Static => is_ip,
        Resolution::Dns => is_ip || valid_host(address),
    };
    if !fits {
        let wanted = match spec.resolution {
            Resolution::Static => "an IP address (with resolution: DNS, a host name too)",
            Resolution::Dns => "an IP address or a host name",
        };
        let message = format!("{address:?} is not {wanted}");
        problems.error(code::BAD_ENDPOINT, format!("{path}.address"), message);
        problems.help("leave the port out: it goes into ports");
    }
    for (name, port) in &endpoint.ports {
        let path = format!("{path}.ports.{name}");
        if *port == 0 {
            problems.error(code::BAD_PORT, path.clone(), "0 is no port; ports are 1 to 65535");
        }
        let known = || spec.ports.iter().map(|p| p.name.as_str());
        if !known().any(|k| k == name) {
            problems.error(code::UNKNOWN_PORT_NAME, path, format!("the entry has no port named {name:?}"));
            if let Some(near) = did_you_mean(name, known()) {
                problems.help(format!("did you mean {near:?}?"));
            }
        }
    }
    if endpoint.weight > WEIGHT_MAX {
        let message = format!("{} is not within 0 and {WEIGHT_MAX}", endpoint.weight);
        problems.error(code::ENDPOINT_WEIGHT, format!("{path}.weight"), message);
    }
    if let Some(Err(_)) = endpoint.service_account.as_ref().map(|a| ServiceAccount::parse(a)) {
        problems.error(
            code::BAD_SERVICE_ACCOUNT,
            format!("{path}.serviceAccount"),
            "this is no service account",
        );
    }
}

fn check_identity(meta: &Meta, spec: &ServiceEntrySpec, problems: &mut Problems) {
    for (i, name) in spec.subject_alt_names.iter().enumerate() {
        let path = format!("spec.subjectAltNames[{i}]");
        match spec.location {
            Location::MeshInternal if SpiffeId::parse(name).is_err() => {
                problems.error(code::BAD_ALT_NAME, path, format!("{name:?} is no SPIFFE id"));
                problems
                    .help("inside the mesh, servers prove spiffe://<trust-domain>/ns/<namespace>/sa/<name>");
            }
            Location::MeshExternal if !valid_host(name) => {
                problems.error(code::BAD_ALT_NAME, path, format!("{name:?} is no host name"));
                problems.help("outside the mesh, certificates are checked for DNS names");
            }
            _ => {}
        }
    }
    let internal = spec.location == Location::MeshInternal;
    let proved = |e: &EntryEndpoint| e.service_account.is_some();
    let unproved = spec.endpoints.is_empty() || !spec.endpoints.iter().all(proved);
    if internal && unproved && spec.subject_alt_names.is_empty() {
        let message =
            format!("{}/{} does not say which identity its servers prove", meta.namespace, meta.name);
        problems.error(code::NO_IDENTITY, "spec.endpoints", message);
        problems.help("give each endpoint a serviceAccount, or list SPIFFE ids in subjectAltNames");
    }
}

/// Lower-case letters, digits, `-` and `_` in labels of 1 to 63, 253 in all (RFC 1123 section 2.1, and the underscore
/// that compose files use). Not an IP address.
pub(crate) fn valid_host(host: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    let label = |l: &str| {
        !l.is_empty() && l.len() <= 63 && l.bytes().all(allowed) && !l.starts_with('-') && !l.ends_with('-')
    };
    host.len() <= 253 && host.split('.').all(label) && host.parse::<IpAddr>().is_err()
}
