//! hyper's settings for the four codecs, every limit explicit.

use std::io;

use hyper::{client, server};
use hyper_util::rt::TokioTimer;

use super::exec::LocalExec;
use crate::settings::limits::Limits;

/// Whether bytes came that break the rules of the protocol; a peer that went away sent too few.
pub(crate) fn is_malformed(error: &hyper::Error) -> bool {
    let source = std::error::Error::source(error);
    let kind = source.and_then(|source| source.downcast_ref::<io::Error>()).map(io::Error::kind);
    error.is_parse() || matches!(kind, Some(io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData))
}

/// Whether the peer says that it did nothing with the request: a stream refused (RFC 9113 section 8.7), or one behind the last
/// that its GOAWAY names (section 6.8).
pub(crate) fn was_refused(error: &hyper::Error) -> bool {
    let source = std::error::Error::source(error);
    source.and_then(|source| source.downcast_ref::<h2::Error>()).is_some_and(|error| {
        error.is_remote()
            && (error.is_go_away()
                || (error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM)))
    })
}

fn bytes(limit: u32) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}

/// Idle time and heads have clocks of our own: hyper's takes both for one.
pub(crate) fn server_http1(limits: &Limits) -> server::conn::http1::Builder {
    let mut builder = server::conn::http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .half_close(false)
        .keep_alive(true)
        .max_headers(limits.headers_max)
        .max_buf_size(bytes(limits.head_bytes_max))
        .allow_multiple_spaces_in_request_line_delimiters(false)
        .ignore_invalid_headers(false)
        // The application's Date is forwarded; one of ours would differ from it.
        .auto_date_header(false);
    builder
}

pub(crate) fn server_http2(limits: &Limits) -> server::conn::http2::Builder<LocalExec> {
    let mut builder = server::conn::http2::Builder::new(LocalExec);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams_max)
        .initial_stream_window_size(limits.stream_window_bytes)
        .initial_connection_window_size(limits.connection_window_bytes)
        .max_header_list_size(limits.head_bytes_max)
        .max_pending_accept_reset_streams(limits.pending_reset_streams_max)
        .max_local_error_reset_streams(limits.local_reset_streams_max)
        .max_send_buf_size(limits.send_buffer_bytes)
        .keep_alive_interval(limits.ping_interval)
        .keep_alive_timeout(limits.ping_timeout)
        .auto_date_header(false);
    builder
}

pub(crate) fn client_http1(limits: &Limits) -> client::conn::http1::Builder {
    let mut builder = client::conn::http1::Builder::new();
    builder
        .max_headers(limits.headers_max)
        .max_buf_size(bytes(limits.head_bytes_max))
        .http09_responses(false)
        .allow_spaces_after_header_name_in_responses(false)
        .allow_obsolete_multiline_headers_in_responses(false)
        .ignore_invalid_headers_in_responses(false);
    builder
}

pub(crate) fn client_http2(limits: &Limits) -> client::conn::http2::Builder<LocalExec> {
    let mut builder = client::conn::http2::Builder::new(LocalExec);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(0)
        .initial_stream_window_size(limits.stream_window_bytes)
        .initial_connection_window_size(limits.connection_window_bytes)
        .max_header_list_size(limits.head_bytes_max)
        .max_send_buf_size(limits.send_buffer_bytes)
        .max_local_error_reset_streams(limits.local_reset_streams_max)
        .keep_alive_interval(limits.ping_interval)
        .keep_alive_timeout(limits.ping_timeout)
        // A connection whose peer is gone is found before a request needs it.
        .keep_alive_while_idle(true);
    builder
}
