//! Authorities that everybody reads alike.

use http::uri::Authority;
use palisade_policy::kind::gateway::host::plain_host;

/// Whether an authority names one host and at most one port. The `http` crate takes more: ports that are no numbers
/// (`a:b`, `a:`, `a:99999`), of which a policy, a route and an upstream may each make another host, and characters that
/// no name of a host has (RFC 3986 allows them all the same).
pub(crate) fn is_plain(authority: &Authority) -> bool {
    let host = authority.host();
    let port = authority.as_str().strip_prefix(host);
    let named = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host = match bracketed {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host.bytes().all(named) && !plain_host(host).split('.').any(str::is_empty),
    };
    is_host && port.is_some_and(is_port)
}

/// Nothing, or a colon and a number that a port can be.
fn is_port(text: &str) -> bool {
    match text.strip_prefix(':') {
        Some(digits) => {
            digits.bytes().all(|byte| byte.is_ascii_digit())
                && digits.len() <= 5
                && digits.parse::<u16>().is_ok_and(|port| port != 0)
        }
        None => text.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports_are_what_every_reader_takes_them_for() {
        let good =
            ["a", "a.b", "A.b.", "a_b", "a-b:80", "127.0.0.1:8080", "[::1]", "[2001:db8::1]:443", "a.:65535"];
        let bad = [
            "a:", "a:b", "a:+80", "a:0", "a:99999", "a:000080", "a..b", ".a", ".", "a,b", "a;b", "a'b", "*",
            "*.a", "[::1]:", "[::g]", "u@a", "a..", "a!",
        ];
        let plain = |text: &str| text.parse::<Authority>().is_ok_and(|authority| is_plain(&authority));
        for text in good {
            assert!(plain(text), "{text}");
        }
        for text in bad {
            assert!(!plain(text), "{text}");
        }
    }
}
