//! What a request from outside says of where it came from, and how much of that is believed.

use std::net::{IpAddr, SocketAddr};

use http::header::{HeaderMap, HeaderName, HeaderValue};
pub use palisade_policy::request::origin::{is_claim, strip_claims};

use crate::telemetry::trace::context::{TRACEPARENT, TRACESTATE};

pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// What is believed of where a request came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The client: the peer, or whom `trusted_hops` proxies of ours name.
    pub client: IpAddr,
    /// The client first; each further one a proxy of ours, the last one the peer.
    pub hops: Vec<IpAddr>,
    /// Whether the client spoke TLS, to us or to the trusted proxy in front of us.
    pub https: bool,
}

impl Origin {
    /// Reads from right to left, because only the right end was written by proxies of ours (RFC 7239 section 8.1).
    /// With fewer or other entries than the hops would have written, nothing of it is believed.
    ///
    /// `peer`: the connection's client, by its PROXY header where there is one.
    pub fn read(peer: IpAddr, tls: bool, headers: &HeaderMap, trusted_hops: u8) -> Self {
        let peer = peer.to_canonical();
        let alone = Self { client: peer, hops: vec![peer], https: tls };
        if trusted_hops == 0 {
            return alone;
        }
        let Some(mut hops) = trusted(headers, usize::from(trusted_hops)) else { return alone };
        let Some(client) = hops.first().copied() else { return alone };
        hops.push(peer);
        let proto = headers.get_all(X_FORWARDED_PROTO).iter().next_back();
        let proto = proto.and_then(|value| value.as_bytes().rsplit(|byte| *byte == b',').next());
        let https = proto.map_or(tls, |proto| proto.trim_ascii().eq_ignore_ascii_case(b"https"));
        Self { client, hops, https }
    }

    /// Writes what is believed, after `strip_claims` has removed what was said.
    pub fn write(&self, headers: &mut HeaderMap, authority: &str) {
        let mut list = String::with_capacity(48);
        for hop in &self.hops {
            let separator = if list.is_empty() { "" } else { ", " };
            list.push_str(separator);
            list.push_str(&hop.to_string());
        }
        if let Ok(value) = HeaderValue::try_from(list) {
            headers.insert(X_FORWARDED_FOR, value);
        }
        let proto = if self.https { "https" } else { "http" };
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(proto));
        if let Ok(value) = HeaderValue::from_str(authority) {
            headers.insert(X_FORWARDED_HOST, value);
        }
    }
}

/// The last `n` addresses of all lines together, oldest first.
fn trusted(headers: &HeaderMap, n: usize) -> Option<Vec<IpAddr>> {
    let lines = headers.get_all(X_FORWARDED_FOR).iter().rev();
    let entries = lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
    let mut hops: Vec<IpAddr> = entries.take(n).map_while(address).collect();
    hops.reverse();
    (hops.len() == n).then_some(hops)
}

/// An address as load balancers write it: bare, with a port, or in brackets.
fn address(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?.trim();
    let bare = || text.parse::<IpAddr>().ok();
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse::<IpAddr>().ok();
    bare().or_else(with_port).or_else(bracketed).map(|address| address.to_canonical())
}

/// Removes what a client says of a trace: its ids would be chosen, and the cost of recording be caused, by anybody.
pub fn strip_trace(headers: &mut HeaderMap) {
    headers.remove(TRACEPARENT);
    headers.remove(TRACESTATE);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(HeaderName::from_static(name), value.parse().unwrap());
        }
        map
    }

    fn client(lines: &[&str], hops: u8) -> String {
        let lines: Vec<_> = lines.iter().map(|line| ("x-forwarded-for", *line)).collect();
        Origin::read("192.0.2.9".parse().unwrap(), false, &headers(&lines), hops).client.to_string()
    }

    #[test]
    fn the_client_is_counted_from_the_right_and_what_stands_left_of_it_is_not_believed() {
        let rows: &[(&[&str], u8, &str)] = &[
            (&[], 0, "192.0.2.9"),
            (&["1.1.1.1"], 0, "192.0.2.9"),
            (&["1.1.1.1"], 1, "1.1.1.1"),
            (&["6.6.6.6, 1.1.1.1"], 1, "1.1.1.1"),
            (&["6.6.6.6", "1.1.1.1"], 1, "1.1.1.1"),
            (&["6.6.6.6, 1.1.1.1", "10.0.0.1"], 2, "1.1.1.1"),
            (&["1.1.1.1:4711"], 1, "1.1.1.1"),
            (&["[2001:db8::1]:4711"], 1, "2001:db8::1"),
            (&["[2001:db8::1]"], 1, "2001:db8::1"),
            (&["2001:db8::1"], 1, "2001:db8::1"),
            (&["::ffff:1.1.1.1"], 1, "1.1.1.1"),
            // Fewer than the hops would have written, or no address: whoever wrote it is not the proxy we know.
            (&["1.1.1.1"], 2, "192.0.2.9"),
            (&["1.1.1.1, "], 1, "192.0.2.9"),
            (&["1.1.1.1, unknown"], 1, "192.0.2.9"),
            (&["unknown, 1.1.1.1"], 2, "192.0.2.9"),
            (&["127.0.0.1\t"], 1, "127.0.0.1"),
            (&[], 1, "192.0.2.9"),
        ];
        for (lines, hops, expected) in rows {
            assert_eq!(client(lines, *hops), *expected, "{lines:?} with {hops} hops");
        }
    }

    #[test]
    fn the_scheme_is_the_trusted_proxys_word_only_where_one_is_trusted() {
        let peer = "192.0.2.9".parse().unwrap();
        let said = headers(&[("x-forwarded-for", "1.1.1.1"), ("x-forwarded-proto", "http, https")]);
        assert!(!Origin::read(peer, false, &said, 0).https);
        assert!(Origin::read(peer, false, &said, 1).https);
        let plain = headers(&[("x-forwarded-for", "1.1.1.1"), ("x-forwarded-proto", "https, http")]);
        assert!(!Origin::read(peer, true, &plain, 1).https);
    }

    #[test]
    fn claims_are_removed_under_every_spelling() {
        for name in [
            "x-forwarded-for",
            "x_forwarded_for",
            "x-forwarded_proto",
            "x-forwarded-client-cert",
            "forwarded",
            "x-real-ip",
            "x_real_ip",
            "x-palisade-decision-id",
            "x_palisade_anything",
            "x-envoy-internal",
            "true-client-ip",
            "client_ip",
            "x-ssl_client-verify",
            "x_http_method",
            "proxy",
        ] {
            assert!(is_claim(name), "{name}");
            for hops in [0, 1] {
                let mut map = headers(&[(name, "forged"), ("accept", "text/plain")]);
                strip_claims(&mut map, hops);
                assert_eq!(map.len(), 1, "{name}");
            }
        }
        for name in [
            "x-forwarded",
            "x-request-id",
            "authorization",
            "x-realip",
            "forwarded-for",
            "viaduct",
            "x-amzn-trace-id",
        ] {
            assert!(!is_claim(name), "{name}");
        }
    }

    #[test]
    fn what_a_load_balancer_says_of_its_users_stays_only_where_one_is_trusted() {
        for name in ["x-amzn-oidc-identity", "x_amzn_oidc_data", "x-amzn-mtls-clientcert-subject"] {
            assert!(is_claim(name), "{name}");
            for (hops, left) in [(0, 0), (1, 1)] {
                let mut map = headers(&[(name, "alice")]);
                strip_claims(&mut map, hops);
                assert_eq!(map.len(), left, "{name} with {hops} hops");
            }
        }
    }

    #[test]
    fn what_is_believed_is_written() {
        let said = headers(&[("x-forwarded-for", "6.6.6.6, 1.1.1.1, 10.0.0.1")]);
        let origin = Origin::read("10.0.0.2".parse().unwrap(), true, &said, 2);
        let mut map = said;
        strip_claims(&mut map, 2);
        origin.write(&mut map, "api.example");
        assert_eq!(map.get("x-forwarded-for").unwrap(), "1.1.1.1, 10.0.0.1, 10.0.0.2");
        assert_eq!(map.get("x-forwarded-proto").unwrap(), "https");
        assert_eq!(map.get("x-forwarded-host").unwrap(), "api.example");
    }
}
