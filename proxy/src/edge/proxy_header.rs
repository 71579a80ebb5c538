//! The PROXY protocol, versions 1 and 2: how a load balancer of layer 4 says who its client is.
//! <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crc::{CRC_32_ISCSI, Crc};
use tokio::io::{AsyncRead, AsyncReadExt};

const SIGNATURE_V2: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Section 2.1: the longest line of version 1, CRLF included.
const LINE_BYTES_MAX: usize = 107;
/// Addresses and TLVs of version 2. 2 KiB: load balancers of clouds send less than 200 bytes.
const BODY_BYTES_MAX: usize = 2048;

/// Why a connection does not begin with a PROXY header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyHeaderError {
    #[error("the connection ended or stalled within its PROXY header")]
    Incomplete,
    #[error("the connection does not begin with a PROXY header, which its peer must send")]
    Missing,
    #[error("the PROXY header is malformed")]
    Malformed,
    #[error("the PROXY header is longer than any real one")]
    TooLong,
}

impl ProxyHeaderError {
    /// Machine-readable, stable.
    pub fn code(self) -> &'static str {
        match self {
            Self::Incomplete => "proxy_header_incomplete",
            Self::Missing => "proxy_header_missing",
            Self::Malformed => "proxy_header_malformed",
            Self::TooLong => "proxy_header_too_long",
        }
    }
}

/// Reads a header and not a byte more. `None`: the proxy speaks for itself (health checks).
pub async fn read<T: AsyncRead + Unpin>(io: &mut T) -> Result<Option<SocketAddr>, ProxyHeaderError> {
    let mut start = [0; SIGNATURE_V2.len()];
    exact(io, &mut start).await?;
    if start == SIGNATURE_V2 {
        let mut fixed = [0; 4];
        exact(io, &mut fixed).await?;
        let [version_command, family, high, low] = fixed;
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length > BODY_BYTES_MAX {
            return Err(ProxyHeaderError::TooLong);
        }
        let mut body = vec![0; length];
        exact(io, &mut body).await?;
        return parse_v2(version_command, family, &body);
    }
    if !start.starts_with(b"PROXY ") {
        return Err(ProxyHeaderError::Missing);
    }
    let mut line = start.to_vec();
    while !line.ends_with(b"\r\n") {
        if line.len() >= LINE_BYTES_MAX {
            return Err(ProxyHeaderError::TooLong);
        }
        let mut next = [0];
        exact(io, &mut next).await?;
        line.extend_from_slice(&next);
    }
    parse_v1(&line)
}

async fn exact<T: AsyncRead + Unpin>(io: &mut T, buffer: &mut [u8]) -> Result<(), ProxyHeaderError> {
    let read: io::Result<usize> = io.read_exact(buffer).await;
    read.map(drop).map_err(|_ended| ProxyHeaderError::Incomplete)
}

/// A line of version 1 with its CRLF.
pub fn parse_v1(line: &[u8]) -> Result<Option<SocketAddr>, ProxyHeaderError> {
    let malformed = ProxyHeaderError::Malformed;
    let text = line.strip_suffix(b"\r\n").and_then(|line| std::str::from_utf8(line).ok()).ok_or(malformed)?;
    let rest = text.strip_prefix("PROXY ").ok_or(malformed)?;
    if rest == "UNKNOWN" || rest.starts_with("UNKNOWN ") {
        return Ok(None);
    }
    let mut words = rest.split(' ');
    let mut next = || words.next().ok_or(malformed);
    let (family, source, destination, port, to) = (next()?, next()?, next()?, next()?, next()?);
    if words.next().is_some() {
        return Err(malformed);
    }
    let (source, _): (IpAddr, IpAddr) = match family {
        "TCP4" => (ip::<Ipv4Addr>(source)?, ip::<Ipv4Addr>(destination)?),
        "TCP6" => (ip::<Ipv6Addr>(source)?, ip::<Ipv6Addr>(destination)?),
        _ => return Err(malformed),
    };
    port_of(to)?;
    Ok(Some(SocketAddr::new(source, port_of(port)?)))
}

fn ip<T: std::str::FromStr + Into<IpAddr>>(text: &str) -> Result<IpAddr, ProxyHeaderError> {
    text.parse::<T>().map(Into::into).map_err(|_no_address| ProxyHeaderError::Malformed)
}

/// Digits only, without leading zeros.
fn port_of(text: &str) -> Result<u16, ProxyHeaderError> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain).ok_or(ProxyHeaderError::Malformed)
}

/// What follows the signature of version 2.
pub fn parse_v2(
    version_command: u8,
    family: u8,
    body: &[u8],
) -> Result<Option<SocketAddr>, ProxyHeaderError> {
    const LOCAL: u8 = 0x20;
    const PROXY: u8 = 0x21;
    const TCP_IPV4: u8 = 0x11;
    const TCP_IPV6: u8 = 0x21;
    match (version_command, family) {
        (LOCAL, _) => Ok(None),
        (PROXY, TCP_IPV4) => {
            let ([a, b, c, d, _, _, _, _, high, low, _, _], tlvs) = split(body)?;
            check_tlvs([version_command, family], body, tlvs)?;
            Ok(Some(SocketAddr::new(Ipv4Addr::new(*a, *b, *c, *d).into(), u16::from_be_bytes([*high, *low]))))
        }
        (PROXY, TCP_IPV6) => {
            let (source, rest) = split::<16>(body)?;
            let (_, rest) = split::<16>(rest)?;
            let ([high, low, _, _], tlvs) = split(rest)?;
            check_tlvs([version_command, family], body, tlvs)?;
            Ok(Some(SocketAddr::new(Ipv6Addr::from(*source).into(), u16::from_be_bytes([*high, *low]))))
        }
        _ => Err(ProxyHeaderError::Malformed),
    }
}

/// TLVs say nothing that is wanted here, but they must fill the header to its end (section 2.2): where they do not, its
/// length is not the one that was meant, and what follows is not where the client's bytes begin.
fn check_tlvs(start: [u8; 2], body: &[u8], mut tlvs: &[u8]) -> Result<(), ProxyHeaderError> {
    const CRC32C: u8 = 0x03;
    while !tlvs.is_empty() {
        let ([kind, high, low], rest) = split(tlvs)?;
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let (value, rest) = rest.split_at_checked(length).ok_or(ProxyHeaderError::Malformed)?;
        if *kind == CRC32C && value != crc32c(start, body, value.len() + rest.len()).to_be_bytes() {
            return Err(ProxyHeaderError::Malformed);
        }
        tlvs = rest;
    }
    Ok(())
}

/// Of the whole header, with zeros in place of the checksum itself, which begins so many bytes before the end.
fn crc32c(start: [u8; 2], body: &[u8], from_end: usize) -> u32 {
    static CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);
    let before = body.len().saturating_sub(from_end);
    let (before, rest) = body.split_at(before);
    let length = u16::try_from(body.len()).unwrap_or(u16::MAX).to_be_bytes();
    let mut digest = CRC.digest();
    for part in [&SIGNATURE_V2[..], &start, &length, before, &[0; 4], rest.get(4..).unwrap_or_default()] {
        digest.update(part);
    }
    digest.finalize()
}

fn split<const N: usize>(body: &[u8]) -> Result<(&[u8; N], &[u8]), ProxyHeaderError> {
    body.split_first_chunk().ok_or(ProxyHeaderError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn whole(bytes: &[u8]) -> Result<(Option<String>, Vec<u8>), ProxyHeaderError> {
        let mut io = bytes;
        let client = read(&mut io).await?;
        Ok((client.map(|address| address.to_string()), io.to_vec()))
    }

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [&SIGNATURE_V2[..], &[command, family], &length, body, b"rest"].concat()
    }

    /// The addresses, a TLV, and a checksum that is off by so much, with a TLV behind it.
    fn with_checksum(addresses: &[u8], off_by: u32) -> Vec<u8> {
        let mut body = [addresses, b"\xe0\0\x01x\x03\0\x04\0\0\0\0\x04\0\x02yz"].concat();
        let at = body.len() - 9;
        let header = v2(0x21, 0x11, &body);
        // Bit by bit, as RFC 3720 appendix B.4 gives it.
        let whole = header.strip_suffix(b"rest").unwrap().iter().fold(u32::MAX, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ ((crc & 1) * 0x82f6_3b78))
        });
        body[at..at + 4].copy_from_slice(&(!whole ^ off_by).to_be_bytes());
        body
    }

    #[tokio::test]
    async fn reads_both_versions_and_not_a_byte_more() {
        let v4 = [1, 2, 3, 4, 10, 0, 0, 1, 0x12, 0x34, 1, 187];
        let v6 =
            [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[1], &[0; 16], &[0, 80, 1, 187], b"\x04\0\x01x"].concat();
        let rows: Vec<(Vec<u8>, Option<&str>)> = vec![
            (b"PROXY TCP4 1.2.3.4 10.0.0.1 4660 443\r\nrest".to_vec(), Some("1.2.3.4:4660")),
            (b"PROXY TCP6 2001:db8::1 ::1 80 443\r\nrest".to_vec(), Some("[2001:db8::1]:80")),
            (b"PROXY UNKNOWN\r\nrest".to_vec(), None),
            (b"PROXY UNKNOWN ::1 ::1 1 2\r\nrest".to_vec(), None),
            (v2(0x21, 0x11, &v4), Some("1.2.3.4:4660")),
            (v2(0x21, 0x21, &v6), Some("[2001:db8::1]:80")),
            (v2(0x21, 0x11, &[&v4[..], b"\x04\0\0", b"\xea\0\x03abc"].concat()), Some("1.2.3.4:4660")),
            (v2(0x21, 0x11, &with_checksum(&v4, 0)), Some("1.2.3.4:4660")),
            (v2(0x20, 0, b""), None),
            (v2(0x20, 0x11, &v4), None),
        ];
        for (bytes, client) in rows {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            assert_eq!(whole(&bytes).await, Ok((client.map(Into::into), b"rest".to_vec())), "{text:?}");
        }
    }

    #[tokio::test]
    async fn refuses_what_is_no_header() {
        use ProxyHeaderError as E;
        let long = [b"PROXY TCP4 ".as_slice(), &[b'1'; 200]].concat();
        let huge = [&SIGNATURE_V2[..], &[0x21, 0x11, 0xff, 0xff]].concat();
        let rows: Vec<(Vec<u8>, E)> = vec![
            (b"".to_vec(), E::Incomplete),
            (b"PROXY TCP4 1.2.3.4".to_vec(), E::Incomplete),
            (b"GET / HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(), E::Missing),
            (b"proxy tcp4 1.2.3.4 1.2.3.4 1 2\r\n".to_vec(), E::Missing),
            (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\0".to_vec(), E::Missing),
            (b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n".to_vec(), E::Malformed),
            (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n".to_vec(), E::Malformed),
            (b"PROXY TCP4 ::1 ::1 1 2\r\n".to_vec(), E::Malformed),
            (b"PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n".to_vec(), E::Malformed),
            (b"PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n".to_vec(), E::Malformed),
            (b"PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n".to_vec(), E::Malformed),
            (b"PROXY TCP4 1.2.3.4 1.2.3.4 70000 2\r\n".to_vec(), E::Malformed),
            (b"PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n".to_vec(), E::Malformed),
            (b"PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n".to_vec(), E::Malformed),
            (b"PROXY TCP4 1.2.3.4\n1.2.3.4 1 2\r\n".to_vec(), E::Malformed),
            (long, E::TooLong),
            (huge, E::TooLong),
            (v2(0x21, 0x11, &[1; 11]), E::Malformed),
            (v2(0x21, 0x31, &[1; 216]), E::Malformed),
            (v2(0x11, 0x11, &[1; 12]), E::Malformed),
            (v2(0x22, 0x11, &[1; 12]), E::Malformed),
            (v2(0x21, 0x11, &[&[1; 12][..], b"\x04"].concat()), E::Malformed),
            (v2(0x21, 0x11, &[&[1; 12][..], b"\x04\0"].concat()), E::Malformed),
            (v2(0x21, 0x11, &[&[1; 12][..], b"\x04\0\x02x"].concat()), E::Malformed),
            (v2(0x21, 0x21, &[&[1; 36][..], b"\xea\xff\xffx"].concat()), E::Malformed),
            (v2(0x21, 0x11, &with_checksum(&[1; 12], 1)), E::Malformed),
            (v2(0x21, 0x11, &[&[1; 12][..], b"\x03\0\x02xy"].concat()), E::Malformed),
        ];
        for (bytes, error) in rows {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            assert_eq!(whole(&bytes).await, Err(error), "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_read_past_its_limit(bytes in proptest::collection::vec(0_u8.., 0..300)) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let _any = runtime.block_on(whole(&bytes));
            let _any = runtime.block_on(whole(&[b"PROXY ".as_slice(), &bytes].concat()));
            let _any = runtime.block_on(whole(&[&SIGNATURE_V2[..], &bytes].concat()));
            let _any = parse_v2(0x21, 0x11, &bytes);
            let _any = parse_v2(0x21, 0x21, &[&[0; 36][..], &bytes].concat());
        }

        #[test]
        fn tlvs_that_fill_the_header_are_read_and_a_byte_more_or_less_is_refused(
            values in proptest::collection::vec((4_u8.., proptest::collection::vec(0_u8.., 0..20)), 1..8)
        ) {
            let mut body = vec![1; 12];
            for (kind, value) in &values {
                body.extend([*kind, 0, u8::try_from(value.len()).unwrap()]);
                body.extend(value);
            }
            proptest::prop_assert!(parse_v2(0x21, 0x11, &body).is_ok());
            proptest::prop_assert!(parse_v2(0x21, 0x11, &[&body[..], &[0]].concat()).is_err());
            body.pop();
            proptest::prop_assert!(parse_v2(0x21, 0x11, &body).is_err());
        }
    }
}
