//! Where requests come from: load and live.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

use super::fill::{Filling, refuse};
use super::read::{address as read_address, length, number};
use super::{Live, Load, LoadRequest, Reporter};
use crate::document::reader::{At, Reader};

const PER_SECOND: RangeInclusive<u64> = 1..=1000;
const PER_SECOND_DEFAULT: u32 = 10;
const IN_FLIGHT: RangeInclusive<u64> = 1..=4096;
const IN_FLIGHT_DEFAULT: usize = 256;
const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60);
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
const REQUESTS_MAX: usize = 16;
const HEADERS_MAX: usize = 32;
const BODY_BYTES_MAX: usize = 64 * 1024;

/// Written by whoever sends the request, or not at all.
const FRAMING: [HeaderName; 8] =
    [CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];

const REPORTERS: &[(&str, Reporter)] =
    &[("source", Reporter::Source), ("destination", Reporter::Destination)];

pub(super) fn read_load(reader: &mut Reader<'_>, filling: &Filling<'_>, at: &At<'_>) -> Option<Load> {
    let mut fields = reader.mapping(at)?;
    let via_at = fields.take("via");
    let has_via = via_at.is_some();
    let via = via_at.map(|at| read_address(reader, filling, &at));
    let help = "what is sent: requests: [{method: POST, url: http://...}]";
    let requests = reader.needed(&mut fields, "requests", help);
    let requests = requests.and_then(|at| read_requests(reader, filling, &at, has_via));
    let key_at = fields.take("idempotencyKey");
    let key = key_at.map(|at| reader.text(&at).and_then(|name| header_name(reader, &at, &name)));
    let per_second = number(reader, fields.take("ratePerSecond"), PER_SECOND, PER_SECOND_DEFAULT);
    let in_flight = number(reader, fields.take("maxInFlight"), IN_FLIGHT, IN_FLIGHT_DEFAULT);
    let timeout = length(reader, filling, fields.take("timeout"), &TIMEOUT, TIMEOUT_DEFAULT);
    reader.finish(fields, &[]);
    let via = via.map_or(Some(None), |via| via.map(Some));
    let idempotency_key = key.map_or(Some(None), |key| key.map(Some));
    Some(Load {
        requests: requests?,
        via: via?,
        idempotency_key: idempotency_key?,
        per_second: per_second?,
        max_in_flight: in_flight?,
        timeout: timeout?,
    })
}

fn read_requests(
    reader: &mut Reader<'_>,
    filling: &Filling<'_>,
    at: &At<'_>,
    has_via: bool,
) -> Option<Vec<LoadRequest>> {
    let items = reader.items(at);
    if items.is_empty() || items.len() > REQUESTS_MAX {
        refuse(reader, at, format!("{} requests are written", items.len()), format!("1 to {REQUESTS_MAX}"));
    }
    let read: Vec<_> = items.iter().map(|at| read_request(reader, filling, at, has_via)).collect();
    let requests: Vec<LoadRequest> = read.into_iter().collect::<Option<_>>()?;
    (!requests.is_empty()).then_some(requests)
}

fn read_request(
    reader: &mut Reader<'_>,
    filling: &Filling<'_>,
    at: &At<'_>,
    has_via: bool,
) -> Option<LoadRequest> {
    let mut fields = reader.mapping(at)?;
    let method = fields.take("method").map_or(Some(Method::GET), |at| read_method(reader, &at));
    let url = reader.needed(&mut fields, "url", "for example url: http://ledger.fintech:8080/entries");
    let url = url.and_then(|at| read_url(reader, filling, &at, has_via));
    let headers =
        fields.take("headers").map_or(Some(HeaderMap::new()), |at| read_headers(reader, filling, &at));
    let body_at = fields.take("body");
    let body = body_at.as_ref().map_or(Some(String::new()), |at| filling.text(reader, at));
    if let (Some(at), Some(body)) = (&body_at, &body)
        && body.len() > BODY_BYTES_MAX
    {
        refuse(reader, at, format!("the body has {} bytes", body.len()), format!("at most {BODY_BYTES_MAX}"));
    }
    reader.finish(fields, &[]);
    Some(LoadRequest { method: method?, url: url?, headers: headers?, body: body? })
}

fn read_method(reader: &mut Reader<'_>, at: &At<'_>) -> Option<Method> {
    let text = reader.text(at)?;
    let method = Method::from_bytes(text.as_bytes()).ok().filter(|method| *method != Method::CONNECT);
    if method.is_none() {
        refuse(reader, at, format!("{text:?} is no method that can be sent"), "for example GET or POST");
    }
    method
}

fn read_url(reader: &mut Reader<'_>, filling: &Filling<'_>, at: &At<'_>, has_via: bool) -> Option<Uri> {
    let text = filling.text(reader, at)?;
    let url = text.parse::<Uri>().ok().filter(|url| {
        let authority = url.authority().map_or("", |authority| authority.as_str());
        url.scheme_str() == Some("http") && !authority.is_empty() && !authority.contains('@')
    });
    let Some(url) = url else {
        let help = "http://HOST:PORT/PATH; a sidecar encrypts, so https is not for callers in a mesh";
        refuse(reader, at, format!("{text:?} is no URL of http"), help);
        return None;
    };
    if !has_via && address(&url).is_none() {
        let help =
            "write an address such as http://127.0.0.1:8080/, or via: the outbound listener of a sidecar";
        refuse(reader, at, format!("{text:?} names no address, and names are not looked up"), help);
        return None;
    }
    Some(url)
}

/// Where a URL leads whose host is an address.
pub(super) fn address(url: &Uri) -> Option<SocketAddr> {
    let host = url.host()?.trim_start_matches('[').trim_end_matches(']');
    let port = url.port_u16().unwrap_or(80);
    let ip: IpAddr = host.parse().ok()?;
    (port != 0).then_some(SocketAddr::new(ip, port))
}

fn read_headers(reader: &mut Reader<'_>, filling: &Filling<'_>, at: &At<'_>) -> Option<HeaderMap> {
    let entries = reader.entries(at);
    if entries.len() > HEADERS_MAX {
        refuse(
            reader,
            at,
            format!("more than {HEADERS_MAX} headers"),
            "leave out what the service does not read",
        );
    }
    let mut headers = Some(HeaderMap::new());
    for (name, at) in entries {
        let value = filling.text(reader, &at);
        let name = header_name(reader, &at, name);
        let value = value.and_then(|value| {
            let header = HeaderValue::from_str(&value).ok();
            if header.is_none() {
                refuse(reader, &at, "this is no value of a header", "one line of visible characters");
            }
            header
        });
        headers = headers.zip(name.zip(value)).map(|(mut all, (name, value))| {
            all.append(name, value);
            all
        });
    }
    headers
}

fn header_name(reader: &mut Reader<'_>, at: &At<'_>, name: &str) -> Option<HeaderName> {
    match HeaderName::from_bytes(name.as_bytes()) {
        Ok(header) if FRAMING.contains(&header) => {
            refuse(reader, at, format!("{name} is written by whoever sends the request"), "leave it out");
            None
        }
        Ok(header) => Some(header),
        Err(_) => {
            refuse(reader, at, format!("{name:?} is no name of a header"), "for example Idempotency-Key");
            None
        }
    }
}

pub(super) fn read_live(reader: &mut Reader<'_>, filling: &Filling<'_>, at: &At<'_>) -> Option<Live> {
    let mut fields = reader.mapping(at)?;
    let proxies_at = reader.needed(&mut fields, "proxies", "names of observe: proxies: [payments]");
    let proxies = reader.texts(proxies_at.clone());
    if let Some(at) = proxies_at.filter(|_| proxies.is_empty()) {
        refuse(reader, &at, "no proxy is named", "names of observe, for example [payments]");
    }
    let service = fields.take("service").map(|at| filling.text(reader, &at));
    let reporter =
        fields.take("reporter").map_or(Some(Reporter::default()), |at| reader.choice(&at, REPORTERS));
    reader.finish(fields, &[]);
    let service = service.map_or(Some(None), |service| service.map(Some));
    (!proxies.is_empty()).then_some(Live { proxies, service: service?, reporter: reporter? })
}
