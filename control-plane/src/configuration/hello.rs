//! A proxy's first message, read and bounded.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use palisade_policy::kind::service_entry::Protocol;
use palisade_proto::v1;
use tonic::Status;

use crate::limits::Limits;
use crate::registry::{About, Served};

/// Reads what a proxy tells about itself; refuses it whole when any part is wrong.
pub(super) fn read(hello: v1::Hello, limits: &Limits) -> Result<About, Status> {
    if hello.serves.len() > limits.served_ports_max {
        let problem = format!("serves: at most {} ports", limits.served_ports_max);
        return Err(Status::invalid_argument(problem));
    }
    let mut numbers = BTreeSet::new();
    let mut serves = Vec::with_capacity(hello.serves.len());
    for (index, port) in hello.serves.into_iter().enumerate() {
        let wrong = |problem: &str| Status::invalid_argument(format!("serves[{index}]: {problem}"));
        let served = served(port, limits).map_err(|problem| wrong(&problem))?;
        if !numbers.insert(served.number) {
            return Err(wrong(&format!("port {} is there twice", served.number)));
        }
        serves.push(served);
    }
    Ok(About {
        binary_version: bounded(hello.binary_version, limits.proxy_text_bytes_max),
        hostname: bounded(hello.hostname, limits.proxy_text_bytes_max),
        serves,
    })
}

fn served(port: v1::ServedPort, limits: &Limits) -> Result<Served, String> {
    let protocol = match port.protocol() {
        v1::Protocol::Http => Protocol::Http,
        v1::Protocol::Http2 => Protocol::Http2,
        v1::Protocol::Grpc => Protocol::Grpc,
        v1::Protocol::Tcp => Protocol::Tcp,
        v1::Protocol::Unspecified => return Err("the protocol is missing or unknown".into()),
    };
    let number = u16::try_from(port.number).ok().filter(|n| *n != 0);
    let number = number.ok_or_else(|| format!("{} is no port number", port.number))?;
    let text_max = limits.label_bytes_max;
    if port.name.len() > text_max {
        return Err(format!("the name is longer than {text_max} bytes"));
    }
    let address: SocketAddr =
        port.address.parse().map_err(|_| "the address is not of the form ip:port".to_owned())?;
    if address.port() == 0 || address.ip().is_unspecified() || address.ip().is_multicast() {
        return Err(format!("{address} is no address that callers can connect to; use --advertise"));
    }
    Ok(Served { number, name: port.name, protocol, address })
}

/// Keeps the beginning of a text; the rest says nothing to operators.
pub(super) fn bounded(mut text: String, bytes_max: usize) -> String {
    text.truncate(text.floor_char_boundary(bytes_max));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(number: u32, address: &str) -> v1::ServedPort {
        v1::ServedPort {
            number,
            name: "http".into(),
            protocol: v1::Protocol::Http.into(),
            address: address.into(),
        }
    }

    fn check(serves: Vec<v1::ServedPort>) -> Result<About, Status> {
        read(v1::Hello { serves, ..v1::Hello::default() }, &Limits::default())
    }

    #[test]
    fn takes_addresses_that_callers_can_connect_to() {
        for address in ["127.0.0.1:1", "10.0.0.1:15006", "[::1]:1", "[2001:db8::1]:15006"] {
            let about = check(vec![port(8080, address)]).unwrap();
            assert_eq!(about.serves[0].address.to_string(), address);
        }
        assert!(check(Vec::new()).unwrap().serves.is_empty());
    }

    #[test]
    fn refuses_ports_and_addresses_that_nobody_can_use() {
        for (number, address) in [
            (0, "10.0.0.1:1"),
            (65_536, "10.0.0.1:1"),
            (8080, ""),
            (8080, "10.0.0.1"),
            (8080, "10.0.0.1:0"),
            (8080, "0.0.0.0:15006"),
            (8080, "[::]:15006"),
            (8080, "224.0.0.1:1"),
            (8080, "ledger:15006"),
        ] {
            assert!(check(vec![port(number, address)]).is_err(), "{number} {address}");
        }
        assert!(check(vec![port(8080, "10.0.0.1:1"), port(8080, "10.0.0.1:2")]).is_err());
        let unknown = v1::ServedPort { protocol: 99, ..port(8080, "10.0.0.1:1") };
        assert!(check(vec![unknown]).is_err());
        let long = v1::ServedPort { name: "x".repeat(254), ..port(8080, "10.0.0.1:1") };
        assert!(check(vec![long]).is_err());
        let many = (1..=65).map(|n| port(n, "10.0.0.1:1")).collect();
        assert!(check(many).is_err());
    }

    #[test]
    fn cuts_long_texts_between_characters() {
        assert_eq!(bounded("ab".into(), 1), "a");
        assert_eq!(bounded("ä".into(), 1), "");
        assert_eq!(bounded("ä".into(), 2), "ä");
    }
}
