//! Whom an address stands for.

use std::net::IpAddr;

/// One client, as far as an address tells: whoever has one IPv6 address has the other 2^64 of its subnet too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ClientKey {
    V4(u32),
    /// The upper half: the /64.
    V6(u64),
}

impl ClientKey {
    /// An IPv4 address in its mapped form is the same client.
    pub(crate) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.to_bits()),
            IpAddr::V6(address) => {
                let [a, b, c, d, e, f, g, h, ..] = address.octets();
                Self::V6(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_has_a_whole_subnet_of_ipv6_and_a_single_ipv4_address() {
        let same = |a: &str, b: &str| ClientKey::of(a.parse().unwrap()) == ClientKey::of(b.parse().unwrap());
        for (a, b, one) in [
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", true),
            ("2001:db8:0:1::1", "2001:db8:0:2::1", false),
            ("::1", "0.0.0.1", false),
        ] {
            assert_eq!(same(a, b), one, "{a} {b}");
        }
    }
}
