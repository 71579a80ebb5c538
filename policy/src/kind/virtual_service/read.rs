//! From YAML to the spec: the object and its routes.

use super::read_parts::{read_cors, read_headers, read_match, read_rewrite};
use super::redirect::{DirectResponse, Redirect};
use super::{
    DestinationRef, HttpRoute, Mirror, RouteDestination, VirtualServiceSpec, WHOLE_PPM, fault, retries,
};
use crate::document::reader::{At, Fields, Reader};
use crate::finding::code;

const SPEC_UNSUPPORTED: &[(&str, &str)] =
    &[("tcp", "not yet: routes are for HTTP"), ("tls", "not yet: TLS ends at the edge; write http routes")];

const ROUTE_UNSUPPORTED: &[(&str, &str)] = &[
    ("delegate", "not yet: write the routes into this VirtualService"),
    ("mirrorPercent", "write mirrorPercentage: {value: 10}"),
    ("mirror_percent", "write mirrorPercentage: {value: 10}"),
];

pub(crate) fn read(reader: &mut Reader<'_>, at: &At<'_>) -> Option<VirtualServiceSpec> {
    let mut fields = reader.mapping(at)?;
    let hosts = fields.take("hosts");
    if hosts.is_none() {
        reader.missing(&fields, "hosts", "the hosts that clients ask for, for example [api.bank.example]");
    }
    let hosts = reader.texts(hosts);
    let gateways = reader.texts(fields.take("gateways"));
    let export_to = reader.texts(fields.take("exportTo"));
    let http = fields.take("http");
    if http.is_none() {
        reader.missing(&fields, "http", "for example http: [{route: [{destination: {host: accounts}}]}]");
    }
    let http = http.map(|at| reader.items(&at)).unwrap_or_default();
    let http = http.iter().filter_map(|at| read_route(reader, at)).collect();
    reader.finish(fields, SPEC_UNSUPPORTED);
    Some(VirtualServiceSpec { hosts, gateways, export_to, http })
}

/// Parts that cannot be read are missing from the result; the finding about them refuses the document.
fn read_route(reader: &mut Reader<'_>, at: &At<'_>) -> Option<HttpRoute> {
    let mut fields = reader.mapping(at)?;
    let mut route =
        HttpRoute { name: fields.take("name").and_then(|at| reader.text(&at)), ..HttpRoute::default() };
    if let Some(at) = fields.take("match") {
        route.matches = reader.items(&at).iter().filter_map(|item| read_match(reader, item)).collect();
    }
    if let Some(at) = fields.take("route") {
        route.route = reader.items(&at).iter().filter_map(|item| read_weighted(reader, item)).collect();
    }
    route.redirect = fields.take("redirect").and_then(|at| read_redirect(reader, &at));
    route.direct_response = fields.take("directResponse").and_then(|at| read_direct(reader, &at));
    route.rewrite = fields.take("rewrite").and_then(|at| read_rewrite(reader, &at));
    route.timeout = fields.take("timeout").and_then(|at| reader.duration(&at));
    route.retries = fields.take("retries").and_then(|at| retries::read(reader, &at));
    route.fault = fields.take("fault").and_then(|at| fault::read(reader, &at));
    route.cors = fields.take("corsPolicy").and_then(|at| read_cors(reader, &at));
    route.headers = fields.take("headers").and_then(|at| read_headers(reader, &at)).unwrap_or_default();
    let mirror = fields.take("mirror").and_then(|at| read_destination(reader, &at));
    let share =
        fields.take("mirrorPercentage").map(|at| (at.clone(), read_share(reader, &at, code::ROUTE_RANGE)));
    let mirrors = fields.take("mirrors");
    match (mirror, share, mirrors) {
        (Some(_), _, Some(at)) => {
            let help = Some("write all of them under mirrors".to_owned());
            reader.error(code::ROUTE_ACTION, at.mark(), &at.path, "mirror stands beside mirrors", help);
        }
        (Some(destination), share, None) => {
            let share_ppm = share.map_or(Some(WHOLE_PPM), |(_, share)| share);
            route.mirrors.extend(share_ppm.map(|share_ppm| Mirror { destination, share_ppm }));
        }
        (None, Some((at, _)), _) => {
            let help = Some("write mirror: {host: ...}, or percentage below an item of mirrors".to_owned());
            reader.error(code::ROUTE_ACTION, at.mark(), &at.path, "there is no mirror beside it", help);
        }
        (None, None, Some(at)) => {
            route.mirrors = reader.items(&at).iter().filter_map(|item| read_mirror(reader, item)).collect();
        }
        (None, None, None) => {}
    }
    reader.finish(fields, ROUTE_UNSUPPORTED);
    Some(route)
}

fn read_weighted(reader: &mut Reader<'_>, at: &At<'_>) -> Option<RouteDestination> {
    let mut fields = reader.mapping(at)?;
    let destination = needed_destination(reader, &mut fields);
    let weight = fields.take("weight").and_then(|at| {
        let number = reader.number(&at)?;
        let weight = u32::try_from(number).ok();
        if weight.is_none() {
            reader.error(code::BAD_WEIGHT, at.mark(), &at.path, format!("{number} is too large"), None);
        }
        weight
    });
    let headers = fields.take("headers").and_then(|at| read_headers(reader, &at)).unwrap_or_default();
    reader.finish(fields, &[]);
    Some(RouteDestination { destination: destination?, weight, headers })
}

fn needed_destination(reader: &mut Reader<'_>, fields: &mut Fields<'_>) -> Option<DestinationRef> {
    let Some(at) = fields.take("destination") else {
        reader.missing(fields, "destination", "for example destination: {host: accounts}");
        return None;
    };
    read_destination(reader, &at)
}

fn read_destination(reader: &mut Reader<'_>, at: &At<'_>) -> Option<DestinationRef> {
    let mut fields = reader.mapping(at)?;
    let host = match fields.take("host") {
        Some(at) => reader.text(&at),
        None => {
            reader.missing(&fields, "host", "name the service");
            None
        }
    };
    let port = fields.take("port").and_then(|at| {
        let mut fields = reader.mapping(&at)?;
        let number = fields.take("number").and_then(|at| reader.port(&at));
        if number.is_none() {
            reader.missing(&fields, "number", "for example port: {number: 8080}");
        }
        reader.finish(fields, &[("name", "write the port's number")]);
        number
    });
    let subset = fields.take("subset").and_then(|at| reader.text(&at));
    reader.finish(fields, &[]);
    Some(DestinationRef { host: host?, port, subset })
}

fn read_redirect(reader: &mut Reader<'_>, at: &At<'_>) -> Option<Redirect> {
    let mut fields = reader.mapping(at)?;
    let mut text = |name| fields.take(name).and_then(|at| reader.text(&at));
    let (uri, authority, scheme) = (text("uri"), text("authority"), text("scheme"));
    let port = fields.take("port").and_then(|at| reader.port(&at));
    let code = fields.take("redirectCode").and_then(|at| read_status(reader, &at, code::ROUTE_RANGE));
    reader.finish(fields, &[("derivePort", "not yet: write port, or leave it to the scheme")]);
    Some(Redirect { uri, authority, scheme, port, code })
}

fn read_direct(reader: &mut Reader<'_>, at: &At<'_>) -> Option<DirectResponse> {
    let mut fields = reader.mapping(at)?;
    let status = match fields.take("status") {
        Some(at) => read_status(reader, &at, code::ROUTE_RANGE),
        None => {
            reader.missing(&fields, "status", "for example status: 503");
            None
        }
    };
    let body = fields.take("body").and_then(|at| read_body(reader, &at));
    reader.finish(fields, &[]);
    Some(DirectResponse { status: status?, body })
}

/// `string`, or `bytes` in base64 as JSON has them.
fn read_body(reader: &mut Reader<'_>, at: &At<'_>) -> Option<Vec<u8>> {
    use base64::Engine as _;
    let mut fields = reader.mapping(at)?;
    let (string, bytes) = (fields.take("string"), fields.take("bytes"));
    reader.finish(fields, &[]);
    match (string, bytes) {
        (Some(at), None) => reader.text(&at).map(String::into_bytes),
        (None, Some(at)) => {
            let text = reader.text(&at)?;
            let decoded = base64::engine::general_purpose::STANDARD.decode(text);
            if decoded.is_err() {
                reader.error(code::UNKNOWN_VALUE, at.mark(), &at.path, "this is no base64", None);
            }
            decoded.ok()
        }
        _ => {
            let help = Some("write string, or bytes in base64".to_owned());
            reader.error(code::ROUTE_ACTION, at.mark(), &at.path, "a body is a string or bytes", help);
            None
        }
    }
}

/// Three digits; which ones are taken is checked with the meaning.
pub(super) fn read_status(reader: &mut Reader<'_>, at: &At<'_>, code: &'static str) -> Option<u16> {
    let number = reader.number(at)?;
    let status = u16::try_from(number).ok();
    if status.is_none() {
        reader.error(code, at.mark(), &at.path, format!("{number} is no status"), None);
    }
    status
}

fn read_mirror(reader: &mut Reader<'_>, at: &At<'_>) -> Option<Mirror> {
    let mut fields = reader.mapping(at)?;
    let destination = needed_destination(reader, &mut fields);
    let share_ppm = match fields.take("percentage") {
        Some(at) => read_share(reader, &at, code::ROUTE_RANGE),
        None => Some(WHOLE_PPM),
    };
    reader.finish(fields, &[]);
    Some(Mirror { destination: destination?, share_ppm: share_ppm? })
}

/// `{value: 12.5}` in parts per million.
/// `{value: 12.5}`. `code`: of what is no percentage.
pub(in crate::kind) fn read_share(reader: &mut Reader<'_>, at: &At<'_>, code: &'static str) -> Option<u32> {
    let mut fields = reader.mapping(at)?;
    let value = fields.take("value");
    if value.is_none() {
        reader.missing(&fields, "value", "for example value: 12.5");
    }
    reader.finish(fields, &[]);
    let at = value?;
    let share = reader.percent(&at).and_then(percent);
    if share.is_none() {
        let help = Some("0 to 100 without quotes, with up to four decimals".to_owned());
        reader.error(code, at.mark(), &at.path, "this is no percentage", help);
    }
    share
}

/// Percent with up to four decimals, as parts per million.
pub fn percent(text: &str) -> Option<u32> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |t: &str, max| (1..=max).contains(&t.len()) && t.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole, 3) || !digits(decimals, 4) {
        return None;
    }
    let share = whole.parse::<u32>().ok()? * 10_000 + format!("{decimals:0<4}").parse::<u32>().ok()?;
    (share <= WHOLE_PPM).then_some(share)
}

#[cfg(test)]
mod tests {
    use super::percent;

    #[test]
    fn percentages_are_kept_to_a_millionth() {
        let rows = [
            ("0", Some(0)),
            ("100", Some(1_000_000)),
            ("100.0", Some(1_000_000)),
            ("12.5", Some(125_000)),
            ("0.0001", Some(1)),
            ("0.00001", None),
            ("100.0001", None),
            ("-1", None),
            ("1e1", None),
            (".5", None),
            ("5.", None),
        ];
        for (text, expected) in rows {
            assert_eq!(percent(text), expected, "{text}");
        }
    }
}
