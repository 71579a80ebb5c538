//! What codecs refuse before there is a request: they answer by themselves, and here it leaves its record.

use crate::error::ProxyError;
use crate::http::normalize::Malformed;
use crate::telemetry::record::Record;

/// The end of an HTTP/1.1 connection by bytes that are no request. hyper has answered and closed; nothing was forwarded.
/// One record for a connection, since this is its end.
pub(super) fn by_codec(error: &hyper::Error, open: impl FnOnce() -> Box<Record>) {
    if !error.is_parse() {
        return;
    }
    let why = if error.is_parse_too_large() { Malformed::HeadTooLarge } else { Malformed::Framing };
    // The preface of HTTP/2 where HTTP/1.1 was agreed on is the one that hyper does not answer.
    let told = (!error.is_parse_version_h2()).then(|| why.status());
    open().refused_by_codec(&ProxyError::Malformed(why), told);
}
