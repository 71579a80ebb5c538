//! Headers that end at a proxy, and headers that only we may set.

use http::header::{
    CONNECTION, COOKIE, Entry, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION,
    TE, TRANSFER_ENCODING, UPGRADE,
};
pub(crate) use palisade_policy::kind::request_guard::names::{begins_folded, is_folded};

use crate::edge::claims::is_claim;
use crate::telemetry::trace::context::{TRACEPARENT, TRACESTATE};

pub(crate) const FORWARDED_CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
pub(crate) const DECISION_ID: HeaderName = HeaderName::from_static("x-palisade-decision-id");
pub(crate) const FLAGGED: HeaderName = HeaderName::from_static("x-palisade-flagged");
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
/// Part of the wish to switch to h2c, which is never granted (RFC 7540 section 3.2.1; gone from RFC 9113).
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
pub(crate) const OUR_PREFIX: &str = "x-palisade-";

/// Removes what RFC 9110 section 7.6.1 ends at this hop: every name on every Connection line, and the known ones.
/// `TE: trailers` stays, because we forward trailers and gRPC asks for it.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if let Entry::Occupied(connection) = headers.entry(CONNECTION) {
        let (_, values) = connection.remove_entry_mult();
        for name in values.flat_map(|value| listed(&value)).collect::<Vec<_>>() {
            if name != TE {
                headers.remove(name);
            }
        }
    }
    // Most heads have none of these, and looking at the names there are is cheaper than asking for each of these.
    remove_names(headers, |name| ENDS_HERE.contains(name));
    keep_te_trailers(headers);
}

/// Makes one line of the cookies that HTTP/2 may split (RFC 9113 section 8.2.3). Whoever reads HTTP/1.1 takes several lines
/// for a list with commas, or takes the first alone.
pub(crate) fn join_cookies(headers: &mut HeaderMap) {
    let lines: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if lines.len() < 2 {
        return;
    }
    // Always one: its parts are values, and so is what stands between them.
    if let Ok(line) = HeaderValue::from_bytes(&lines.join(&b"; "[..])) {
        headers.insert(COOKIE, line);
    }
}

const ENDS_HERE: [HeaderName; 7] = [
    KEEP_ALIVE,
    PROXY_CONNECTION,
    TRANSFER_ENCODING,
    UPGRADE,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    HTTP2_SETTINGS,
];

fn listed(value: &HeaderValue) -> Vec<HeaderName> {
    value
        .as_bytes()
        .split(|b| *b == b',')
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .collect()
}

fn keep_te_trailers(headers: &mut HeaderMap) {
    if let Entry::Occupied(te) = headers.entry(TE) {
        let trailers = te
            .iter()
            .flat_map(|value| value.as_bytes().split(|b| *b == b','))
            .any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"));
        te.remove_entry_mult();
        if trailers {
            headers.insert(TE, HeaderValue::from_static("trailers"));
        }
    }
}

/// Removes every header that only a sidecar may set, under any spelling an application server may fold into it.
pub(crate) fn strip_ours(headers: &mut HeaderMap) {
    let client_cert = FORWARDED_CLIENT_CERT;
    remove_where(headers, |name| begins_folded(name, OUR_PREFIX) || is_folded(name, client_cert.as_str()));
}

/// Removes the headers whose name `is` says.
pub(crate) fn remove_where(headers: &mut HeaderMap, is: impl Fn(&str) -> bool) {
    remove_names(headers, |name| is(name.as_str()));
}

fn remove_names(headers: &mut HeaderMap, is: impl Fn(&HeaderName) -> bool) {
    // `Vec::new` allocates nothing until there is something.
    let found: Vec<HeaderName> = headers.keys().filter(|name| is(name)).cloned().collect();
    for name in found {
        headers.remove(name);
    }
}

/// RFC 9110 section 6.5.1: framing, routing, authentication, and how the content is to be read.
const NEVER_IN_TRAILERS: [HeaderName; 17] = [
    http::header::AUTHORIZATION,
    http::header::CONTENT_ENCODING,
    http::header::CONTENT_LENGTH,
    http::header::CONTENT_RANGE,
    http::header::CONTENT_TYPE,
    COOKIE,
    http::header::HOST,
    http::header::SET_COOKIE,
    TE,
    http::header::TRAILER,
    CONNECTION,
    TRANSFER_ENCODING,
    UPGRADE,
    PROXY_AUTHORIZATION,
    REQUEST_ID,
    TRACEPARENT,
    TRACESTATE,
];

/// Removes what a trailer section may not carry: some servers read it as if it were headers. That is also whatever says
/// who is calling, or from where, under every spelling.
pub(crate) fn strip_trailers(trailers: &mut HeaderMap) {
    let never =
        |name: &str| is_claim(name) || NEVER_IN_TRAILERS.iter().any(|never| is_folded(name, never.as_str()));
    remove_where(trailers, never);
}

/// The protocol that an HTTP/1.1 request or response switches to, when `Connection` says so too. Several lines of
/// `Upgrade` are no wish: the reader of the bytes below (`framing`) and this one must come to the same answer.
pub(crate) fn upgrade_of(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut lines = headers.get_all(UPGRADE).iter();
    let wanted = lines.next().filter(|_| lines.next().is_none())?;
    let listed = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|b| *b == b','))
        .any(|name| name.trim_ascii().eq_ignore_ascii_case(b"upgrade"));
    listed.then(|| wanted.clone())
}

/// Whether a caller speaks gRPC and wants its refusals that way.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(http::header::CONTENT_TYPE).is_some_and(|value| {
        value
            .as_bytes()
            .strip_prefix(b"application/grpc")
            .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';' | b' ')))
    })
}
