//! What must hold for any PROXY header and any claim about an origin (see `crate::fuzzing`).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use futures_util::FutureExt as _;
use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::claims::{Origin, X_FORWARDED_FOR, is_claim, strip_claims};
use super::proxy_header::{ProxyHeaderError, read};
use crate::fuzzing::panic_on;

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 9));

/// The beginning of a connection. Nothing is read past a header, a part of it is never taken for the whole, and the
/// address is one that it names.
pub fn proxy_header(data: &[u8]) {
    let (result, used) = header(data);
    assert!(used <= 16 + 2048, "{used} bytes read");
    let Ok(client) = result else { return };
    let (text, _rest) = data.split_at(used);
    assert_eq!(header(text), (Ok(client), used));
    let (shorter, _last) = text.split_at(used.saturating_sub(1));
    assert_eq!(header(shorter).0, Err(ProxyHeaderError::Incomplete), "{text:?}");
    let Some(client) = client else { return };
    match text.strip_prefix(b"PROXY ") {
        Some(line) => assert_eq!(named_by_v1(line), Some(client), "{text:?}"),
        None => {
            assert!(is_named_by_v2(text, client), "{text:?} {client}");
            check_tlvs(text, client.is_ipv4());
        }
    }
}

/// What stands behind the addresses is TLVs, counted again; none of them may reach over the header's end, and any byte more
/// or less breaks the last one.
fn check_tlvs(text: &[u8], v4: bool) {
    let mut left = text.get(16 + if v4 { 12 } else { 36 }..).unwrap_or_default();
    while let Some(([_kind, high, low], rest)) = left.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        left = rest.get(length..).unwrap_or_else(|| panic_on("a TLV reaches over the end", text));
    }
    assert!(left.is_empty(), "{text:?} ends within a TLV");
}

fn header(data: &[u8]) -> (Result<Option<SocketAddr>, ProxyHeaderError>, usize) {
    let mut io = data;
    let result = read(&mut io).now_or_never();
    let result = result.unwrap_or_else(|| panic_on("it waits for more than there is", data));
    (result, data.len() - io.len())
}

fn named_by_v1(line: &[u8]) -> Option<SocketAddr> {
    let mut words = std::str::from_utf8(line).ok()?.trim_end().split(' ');
    let (family, source, _to, port) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let client = SocketAddr::new(source.parse().ok()?, port.parse().ok()?);
    (client.is_ipv4() == (family == "TCP4")).then_some(client)
}

fn is_named_by_v2(text: &[u8], client: SocketAddr) -> bool {
    let source = text.get(16..).unwrap_or_default();
    let (address, port_at) = match client.ip() {
        IpAddr::V4(ip) => (ip.octets().to_vec(), 8),
        IpAddr::V6(ip) => (ip.octets().to_vec(), 32),
    };
    source.starts_with(&address)
        && source.get(port_at..).is_some_and(|rest| rest.starts_with(&client.port().to_be_bytes()))
}

/// Headers that tell of an origin: a first line with the number of trusted hops, then `name: value`. The client is the
/// peer or stands at its place from the right, whatever stands left of it; nothing that was said is passed on.
pub fn forwarded(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let first = lines.next().and_then(|line| std::str::from_utf8(line).ok()?.trim().parse().ok());
    let trusted_hops: u8 = first.filter(|hops| *hops <= 16).unwrap_or(1);
    let mut headers = HeaderMap::new();
    for line in lines {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = line.split_at(colon);
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
    let origin = Origin::read(PEER, true, &headers, trusted_hops);
    assert_eq!(origin.hops.first(), Some(&origin.client));
    assert_eq!(origin.hops.last(), Some(&PEER));
    assert!([1, usize::from(trusted_hops) + 1].contains(&origin.hops.len()), "{origin:?}");
    if origin.hops.len() > 1 {
        check_place(&headers, trusted_hops, &origin);
        check_left_of_it(&headers, trusted_hops, &origin);
    }
    check_written(headers, &origin);
}

/// Counted again, the long way.
fn check_place(headers: &HeaderMap, trusted_hops: u8, origin: &Origin) {
    let lines = headers.get_all(X_FORWARDED_FOR).iter();
    let entries: Vec<String> = lines
        .flat_map(|line| {
            String::from_utf8_lossy(line.as_bytes()).split(',').map(str::to_owned).collect::<Vec<_>>()
        })
        .collect();
    let place = entries.len().checked_sub(usize::from(trusted_hops)).and_then(|at| entries.get(at));
    let Some(entry) = place else { panic_on("fewer entries than hops", entries) };
    let entry = entry.trim();
    let bare = entry.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok();
    let ip = bare.or_else(|| entry.parse::<SocketAddr>().ok().map(|address| address.ip()));
    assert_eq!(ip.map(|ip| ip.to_canonical()), Some(origin.client), "{entries:?}");
}

/// What a client writes in front of what proxies of ours write has no say.
fn check_left_of_it(headers: &HeaderMap, trusted_hops: u8, origin: &Origin) {
    for forged in ["203.0.113.66", "unknown", "\"", ",,", ""] {
        let mut longer = HeaderMap::new();
        longer.append(X_FORWARDED_FOR, HeaderValue::from_static(forged));
        for (name, value) in headers {
            longer.append(name.clone(), value.clone());
        }
        assert_eq!(Origin::read(PEER, true, &longer, trusted_hops), *origin, "{forged:?} before {headers:?}");
    }
}

fn check_written(mut headers: HeaderMap, origin: &Origin) {
    strip_claims(&mut headers, 0);
    assert!(!headers.keys().any(|name| is_claim(name.as_str())), "{headers:?}");
    let others = headers.len();
    origin.write(&mut headers, "host.example");
    assert_eq!(headers.len(), others + 3, "{headers:?}");
    let hops = u8::try_from(origin.hops.len()).unwrap_or(u8::MAX);
    let next = Origin::read(PEER, true, &headers, hops);
    assert_eq!((next.client, next.https), (origin.client, origin.https), "{headers:?}");
}
