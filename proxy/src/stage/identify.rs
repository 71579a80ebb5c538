//! Headers that say who is calling: set by us, after everything of that name was removed.

use std::fmt::Write as _;

use http::{HeaderMap, HeaderValue};
use palisade_identity::SpiffeId;

use crate::http::headers::{FORWARDED_CLIENT_CERT, REQUEST_ID};

/// The longest request id taken over from a caller. 128: a UUID or a trace id fits several times.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// `x-forwarded-client-cert` in Envoy's format. One value per connection, made once.
pub(crate) fn client_cert_header(own: &SpiffeId, peer: &SpiffeId, leaf_sha256: &[u8]) -> Option<HeaderValue> {
    let mut text = String::with_capacity(256);
    let hash = hex::encode(leaf_sha256);
    let _infallible = write!(text, "By={own};Hash={hash};Subject=\"\";URI={peer}");
    HeaderValue::from_str(&text).ok()
}

pub(crate) fn set_client_cert(headers: &mut HeaderMap, value: Option<&HeaderValue>) {
    headers.remove(FORWARDED_CLIENT_CERT);
    if let Some(value) = value {
        headers.insert(FORWARDED_CLIENT_CERT, value.clone());
    }
}

/// The caller's request id, when it is one and sane; else a new one, which is set.
pub(crate) fn request_id(headers: &mut HeaderMap, new: impl FnOnce() -> String) -> HeaderValue {
    let mut id = given_id(headers).cloned().unwrap_or_else(|| {
        HeaderValue::try_from(new()).unwrap_or_else(|_not_ascii| HeaderValue::from_static("-"))
    });
    // No two requests have the same: in HPACK's table (RFC 7541 section 7.1.3) it would push out what comes again.
    id.set_sensitive(true);
    headers.insert(REQUEST_ID, id.clone());
    id
}

/// The id that the caller gave, where it is one and sane.
pub(crate) fn given_id(headers: &HeaderMap) -> Option<&HeaderValue> {
    let mut given = headers.get_all(REQUEST_ID).iter();
    given.next().filter(|id| given.next().is_none() && is_sane(id))
}

fn is_sane(id: &HeaderValue) -> bool {
    (1..=REQUEST_ID_BYTES_MAX).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic)
}
