//! What codecs refuse before there is a request: they answer by themselves, and here it leaves its record.

use std::cell::Cell;

use http::{StatusCode, Version};

use crate::error::ProxyError;
use crate::http::ledger::Refused;
use crate::http::normalize::Malformed;
use crate::telemetry::record::Record;
use crate::worker::{Direction, Worker};

/// Records of one connection. What it sends beyond them is counted: a peer that is refused for nearly nothing must not
/// write our logs full.
const RECORDS_MAX: u32 = 8;

/// A request, or a connection, that a codec refused by itself. Nothing was forwarded.
#[derive(Clone, Copy, Debug)]
pub(super) struct CodecRefusal {
    why: Malformed,
    version: Version,
    /// What the codec told the caller; `None`: it reset or closed.
    told: Option<StatusCode>,
}

impl CodecRefusal {
    /// `None` where the connection ended for another reason than bytes that are no request.
    pub(super) fn of_http1(error: &hyper::Error) -> Option<Self> {
        if !error.is_parse() {
            return None;
        }
        let why = if error.is_parse_too_large() { Malformed::HeadTooLarge } else { Malformed::Framing };
        // The preface of HTTP/2 where HTTP/1.1 was agreed on is the one that hyper does not answer.
        Some(Self {
            why,
            version: Version::HTTP_11,
            told: (!error.is_parse_version_h2()).then(|| why.status()),
        })
    }

    pub(super) fn of_http2(refused: Refused) -> Self {
        let why = match refused {
            Refused::Malformed => Malformed::Framing,
            Refused::HeadTooLarge => Malformed::HeadTooLarge,
            Refused::TooManyStreams => Malformed::TooManyStreams,
            Refused::Connection => Malformed::Connection,
        };
        Self { why, version: Version::HTTP_2, told: (refused == Refused::HeadTooLarge).then(|| why.status()) }
    }
}

/// Records the refusals of one connection.
pub(super) fn recorder(
    worker: &Worker,
    direction: Direction,
    open: impl Fn() -> Box<Record>,
) -> impl Fn(CodecRefusal) {
    let records = Cell::new(0_u32);
    move |CodecRefusal { why, version, told }| {
        worker.telemetry.count(|shard| shard.codec_refused(direction, why.code()));
        if records.get() < RECORDS_MAX {
            records.set(records.get().saturating_add(1));
            open().refused_by_codec(&ProxyError::Malformed(why), version, told);
        }
    }
}
