//! Headers that end at a proxy, and headers that only we may set.

use std::sync::LazyLock;

use http::header::{
    CONNECTION, COOKIE, Entry, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION,
    TE, TRANSFER_ENCODING, UPGRADE,
};
use palisade_policy::kind::request_guard::names::{HeaderNames, remove_names};
pub(crate) use palisade_policy::kind::request_guard::names::{begins_folded, is_folded, remove_where};

use crate::edge::claims::is_claim;

pub(crate) const FORWARDED_CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
pub(crate) const DECISION_ID: HeaderName = HeaderName::from_static("x-palisade-decision-id");
/// What a sidecar says of a refusal of its own to another one; see `stage::again::Refused`.
pub(crate) const REFUSED: HeaderName = HeaderName::from_static("x-palisade-refused");
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
    // Most heads have none of these, and looking at the names there are is cheaper than asking for each of these. Where `_` is
    // read as `-`, `Transfer_Encoding` would be framing that nobody has looked at.
    remove_names(headers, |name| {
        ENDS_HERE.contains(name) || (name.as_str().contains('_') && OF_THE_MESSAGE.has(name.as_str()))
    });
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

/// Framing, routing, authentication, how the content is to be read, and what ends at this hop: no trailers may carry these
/// (RFC 9110 section 6.5.1), and no other spelling of them means anything good.
static OF_THE_MESSAGE: LazyLock<HeaderNames> = LazyLock::new(|| {
    HeaderNames::new([
        "authorization",
        "connection",
        "content-encoding",
        "content-length",
        "content-range",
        "content-type",
        "cookie",
        "host",
        "http2-settings",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "set-cookie",
        "te",
        "traceparent",
        "tracestate",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-request-id",
    ])
});

/// Removes what a trailer section may not carry: some servers read it as if it were headers. That is also whatever says
/// who is calling, or from where, under every spelling.
pub(crate) fn strip_trailers(trailers: &mut HeaderMap) {
    remove_where(trailers, |name| is_claim(name) || OF_THE_MESSAGE.has(name));
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
