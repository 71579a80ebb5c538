//! Which addresses a key set may be fetched from. Policy writers choose the URL; without this they could make every
//! proxy ask whatever it can reach (SSRF).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How far an address is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    Public,
    /// Loopback, private and shared networks: only where policy says so.
    Private,
    /// Link-local (credentials of a cloud instance live there), multicast, unspecified, reserved: never.
    Never,
}

/// Judges the address that will be connected to. IPv4 inside IPv6 is judged as what it is.
pub(super) fn reach(address: IpAddr) -> Reach {
    match address {
        IpAddr::V4(address) => reach_v4(address),
        IpAddr::V6(address) => reach_v6(address),
    }
}

fn reach_v4(address: Ipv4Addr) -> Reach {
    let [a, b, c, _] = address.octets();
    if address.is_link_local() || address.is_multicast() || a == 0 || a >= 240 {
        return Reach::Never;
    }
    // RFC 6598 shared space, RFC 6890 protocol assignments, RFC 2544 benchmarking.
    let shared = a == 100 && (64..128).contains(&b);
    let special = (a == 192 && b == 0 && c == 0) || (a == 198 && (b == 18 || b == 19));
    if address.is_loopback() || address.is_private() || address.is_documentation() || shared || special {
        Reach::Private
    } else {
        Reach::Public
    }
}

fn reach_v6(address: Ipv6Addr) -> Reach {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        reach_v4(Ipv4Addr::new(a, b, c, d))
    };
    if address.is_loopback() {
        return Reach::Private;
    }
    match (a, b, c, d, e, f) {
        // Unspecified and IPv4-compatible; IPv4-mapped; NAT64 (RFC 6052); 6to4 (RFC 3056).
        (0, 0, 0, 0, 0, 0 | 0xffff) | (0x64, 0xff9b, 0, 0, 0, 0) => v4(g, h),
        (0x2002, ..) => v4(b, c),
        // Local NAT64 (RFC 8215), Teredo and documentation.
        (0x64, 0xff9b, ..) | (0x2001, 0 | 0xdb8, ..) => Reach::Private,
        _ if address.is_unicast_link_local() || address.is_multicast() => Reach::Never,
        _ if address.is_unique_local() || (a & 0xffc0) == 0xfec0 => Reach::Private,
        _ if (a & 0xe000) == 0x2000 => Reach::Public,
        _ => Reach::Never,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_judged_by_what_they_lead_to() {
        let rows = [
            (Reach::Public, "9.9.9.9 2620:fe::9 172.32.0.1 100.128.0.1 ::ffff:9.9.9.9 64:ff9b::909:909"),
            (Reach::Private, "127.0.0.1 127.255.1.1 10.1.2.3 172.16.0.1 192.168.1.1 100.64.0.1 198.18.0.1"),
            (
                Reach::Private,
                "::1 fc00::1 fd12::1 ::ffff:10.0.0.1 ::ffff:127.0.0.1 64:ff9b::7f00:1 2002:7f00:1::",
            ),
            (Reach::Private, "2001:db8::1 2001::1 fec0::1 64:ff9b:1::1"),
            (
                Reach::Never,
                "169.254.169.254 169.254.170.2 0.0.0.0 0.1.2.3 224.0.0.1 255.255.255.255 240.0.0.1",
            ),
            (
                Reach::Never,
                ":: fe80::1 ff02::1 ::ffff:169.254.169.254 64:ff9b::a9fe:a9fe 2002:a9fe:a9fe:: 4000::1",
            ),
        ];
        for (expected, addresses) in rows {
            for address in addresses.split(' ') {
                assert_eq!(reach(address.parse().unwrap()), expected, "{address}");
            }
        }
    }
}
