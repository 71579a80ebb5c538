//! Every cap and deadline of the data plane, in one table (invariant 6).

use std::time::Duration;

use super::cap::Cap;

/// So many at once, and so many a second after that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    pub burst: u32,
    pub per_second: u32,
}

/// What the data plane takes at most, and how long it waits. Nothing is left to a library's default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open connections from outside (sidecar: from the mesh), all listeners and workers together; what comes on top
    /// is closed at once. 10 000: two file descriptors each stay under the usual `nofile` limit of 65 536, with room
    /// for pools and for as many of the application's own.
    pub connections_max: usize,
    /// Connections of the application to its sidecar; what comes on top waits in the kernel. 10 000, of their own:
    /// a flood from outside must not take the application's way out.
    pub application_connections_max: usize,
    /// Of `connections_max`, those that have not finished their handshake (or sent their first byte). 2 500: with
    /// the handshake's deadline 250 a second, and three quarters stay for clients that got through.
    pub handshakes_max: usize,
    /// Open connections of one client address, or IPv6 /64. Sidecar 5 000: half, because an edge may hold a
    /// connection for each WebSocket. Edge 1 000: an office behind one address, a tenth of all. Unlimited where
    /// the peers are load balancers (`--trusted-hops`).
    pub connections_per_address: Cap,
    /// The same for unfinished handshakes. 100: a reconnecting office in one round trip.
    pub handshakes_per_address: Cap,
    /// Accepted sockets that wait for a worker. 256: a burst of one turn of the accept loop; beyond it the kernel's
    /// backlog is the queue.
    pub handover_queue_max: usize,
    /// Pause after an accept error that is about us (EMFILE, ENOBUFS), so that the loop does not spin. 100 ms: ten
    /// tries a second, as files are closed.
    pub accept_pause: Duration,
    /// From accept to a finished TLS handshake, the wait for the first byte included. 10 s: many round trips of a
    /// slow link; far below what a half-open flood needs.
    pub handshake_timeout: Duration,
    /// From the first byte of a request's head to its last: HTTP/1.1, and a header block of HTTP/2. 30 s, at the edge
    /// 15 s: a head is a packet or two; ends a slow-header attack.
    pub header_read_timeout: Duration,
    /// How long a client's connection may be without a request. 75 s: above the 50 s after which callers in the mesh
    /// let go of one, and the 60 s of an AWS ALB, so that the caller closes first and no request meets a closing
    /// connection.
    pub client_idle_timeout: Duration,
    /// How long a client of the edge may take no byte of a response before its connection ends and the upstream is
    /// free. 60 s. `None` within the mesh: a connection there is shared by many callers, and a slow one of them must
    /// not end it for all.
    pub response_stall_timeout: Option<Duration>,
    /// How long a client of the edge may let us wait for a KiB of its request body, all waits since the last KiB together.
    /// 30 s: less than any link brings; a body that drips ends with 408. `None` within the mesh, and not for gRPC, whose
    /// streams may be silent for as long as `stream_idle_timeout` says.
    pub body_timeout: Option<Duration>,
    /// Requests under way, tunnels included, in all workers; what comes on top is turned away with 503. 10 000: each
    /// may hold a connection to its upstream and some tens of KiB.
    pub requests_max: u64,
    /// Of `requests_max`, those of one client address, or IPv6 /64. Edge: a tenth, so that it takes ten of them to keep all
    /// others out. Unlimited within the mesh: an edge or a busy service sends requests for many.
    pub requests_per_address: Cap,
    /// How long a stream (an answer that has begun, gRPC, a tunnel) may carry no byte either way; each holds one of
    /// `requests_max`. Edge 5 min: Envoy's default. Sidecar 1 h, as `tcp_idle_timeout`: watchers within the mesh may rightly be
    /// silent for long, and not for ever.
    pub stream_idle_timeout: Duration,
    /// How long a request may last, streams and tunnels included, whatever goes either way; looked at once a second. `None`: as
    /// long as somebody sends or waits.
    pub request_duration_max: Option<Duration>,
    /// How late a worker may come to what is ready, three times in a row (of ten looks a second), before new requests
    /// are turned away with 503. 500 ms: callers are about to give up, and each request more makes it later for all.
    pub overload_lag: Duration,
    /// What a client of the edge may have us do on one HTTP/2 connection for nothing; more ends it.
    ///
    /// Streams that it takes back, or that it makes us reset; each finished response gives one back. 200 at once: twice
    /// the streams that it may have open; 20 a second.
    pub http2_resets: Allowance,
    /// PING, SETTINGS, PRIORITY, CONTINUATION, empty DATA, unknown frames; each request gives two back. 1 000 at once,
    /// 100 a second: answers to our own pings, and what a client sends at its start.
    pub http2_control_frames: Allowance,
    /// WINDOW_UPDATE; each DATA frame that we send gives two back, and one a KiB. 1 000 at once, 100 a second.
    pub http2_window_updates: Allowance,
    /// Request head in bytes, HTTP/1.1 buffer and HTTP/2 header list (decoded, so that HPACK cannot amplify).
    /// 64 KiB: Envoy's default is 60 KiB.
    pub head_bytes_max: u32,
    /// Header lines. 100: Envoy's default.
    pub headers_max: usize,
    /// Concurrent streams of one HTTP/2 connection. 100: the lower bound that RFC 9113 section 6.5.2 recommends.
    pub streams_max: u32,
    /// HTTP/2 window of one stream. 64 KiB, RFC 9113's own: 1 Gbit/s at 0.5 ms; bounds what one stream may make us hold
    /// while nobody reads it.
    pub stream_window_bytes: u32,
    /// HTTP/2 window of one connection. 6.4 MiB: all of its streams full. With less, a few answers that nobody reads
    /// would use it up and hold up every other request between two sidecars.
    pub connection_window_bytes: u32,
    /// Bytes that wait below one stream before its body is polled no more. 64 KiB.
    pub send_buffer_bytes: usize,
    /// Streams reset by a peer before we had looked at them (rapid reset). 20: the h2 crate's tested default.
    pub pending_reset_streams_max: usize,
    /// Streams that a peer's errors made us reset before the connection is closed. 1024: the h2 crate's default.
    pub local_reset_streams_max: usize,
    /// HTTP/2 ping on connections between sidecars, and how long the answer may take. 30 s and 10 s: finds a dead
    /// path well before a load balancer's usual 350 s.
    pub ping_interval: Duration,
    pub ping_timeout: Duration,
    /// TCP and TLS to an upstream. 5 s: three SYNs (1 s + 2 s back-off).
    pub connect_timeout: Duration,
    /// From the sent request head to the response head. 60 s by default, as gateways use; gRPC streams are exempt,
    /// since a server may stay silent until the client has spoken.
    pub response_timeout: Duration,
    /// Tries of one request on kept connections that turn out to be closed, the first included; nothing of it was sent then.
    pub attempts_max: usize,
    /// Of a request's body, what is kept to send it again. 64 KiB: Envoy and Linkerd keep about as much; with a larger one
    /// the request is sent once. At 1 024 requests under way to a destination 64 MiB at most, and nothing once answered.
    pub retry_body_bytes_max: usize,
    /// Idle HTTP/1.1 connections kept per worker and upstream, and for how long. 32; 50 s: under the 60 s that
    /// many servers close after, so that we close first and the stale race is rare.
    pub idle_connections_max: usize,
    pub idle_timeout: Duration,
    /// HTTP/2 connections per worker and upstream. 4: at 100 streams each 400 requests in flight.
    pub http2_connections_max: usize,
    /// Request body read and thrown away after an early answer so that the connection may be kept. 64 KiB; more
    /// closes it.
    pub discard_bytes_max: usize,
    /// How long that reading may take. 1 s: the caller has the answer already.
    pub discard_timeout: Duration,
    /// Requests that a fault of a route delays, per worker. 1 000; beyond it no fault is injected: each holds a request
    /// that does nothing.
    pub delays_max: usize,
    /// Copies of requests under way per worker (mirrors). 100; beyond it requests go on without a copy.
    pub mirrors_max: usize,
    /// Body bytes that wait for the reader of a copy. 256 KiB; a slower one loses its copy.
    pub mirror_waiting_bytes_max: usize,
    /// How long the application's own idle connections to its sidecar are kept. 1 h: its HTTP client decides, and
    /// closing under its hands would lose requests.
    pub application_idle_timeout: Duration,
    /// How long a TCP connection may carry no byte either way. 1 h: Envoy's default; pools of databases let go of
    /// connections sooner, and each holds one of `requests_max`.
    pub tcp_idle_timeout: Duration,
    /// On a TCP port that takes plaintext as well as mutual TLS: how long a caller may say nothing until it is taken for
    /// one in plaintext whose server speaks first. 1 s: a sidecar's first bytes come with the connection, and once more
    /// after a lost packet.
    pub tcp_first_byte_timeout: Duration,
    /// Bytes held of each direction of a TCP connection. 16 KiB: a whole TLS record.
    pub tcp_buffer_bytes: usize,
    /// After so much silence the kernel asks whether the other end of a TCP connection is there. 60 s: firewalls and load
    /// balancers forget a flow after minutes (an AWS NLB: 350 s).
    pub tcp_keepalive: Duration,
    /// How often the bytes of an open TCP connection are added to the metrics. 5 s: below the usual scrape interval.
    pub tcp_report_interval: Duration,
    /// From the expiry of a peer's certificate to the forced end of its connection; requests in flight may end. 5 s.
    pub expiry_grace: Duration,
    /// DNS: how long an answer is used before it is asked again, and how long the question may take. The system
    /// resolver tells no TTL; 30 s is Envoy's re-resolve order of magnitude. The last good answer is kept.
    pub dns_refresh: Duration,
    pub dns_timeout: Duration,
    /// How long an endpoint that refused a connection is tried last. 10 s.
    pub endpoint_penalty: Duration,
    /// The same for one whose sidecar says that its application is not well. 1 s: the control plane has told everybody by then;
    /// while it is away, one request a second finds out whether all is well again.
    pub unwell_penalty: Duration,
    /// Decision records waiting for the writer, in bytes per worker. 4 MiB: some 5 000 records. What comes on top
    /// is counted in `palisade_records_lost_total`; requests never wait for a disk.
    pub record_bytes_max: usize,
    /// Keys of all rate limits together that have state of their own. 1 000 000. When full, new keys of a limit
    /// share one.
    pub limiter_keys_max: usize,
    /// Questions to the store of mesh limits under way, per worker. 1 000: at 1 ms each a million a second; beyond it
    /// the store is behind and waiting would not help.
    pub store_in_flight_max: usize,
    /// Name, TCP, TLS, password and script of a new connection to the store. 1 s: one lost SYN would be too slow to
    /// be of use.
    pub store_connect_timeout: Duration,
    /// First pause after a failed connection to the store, doubled each time up to the maximum, with jitter. 50 ms to
    /// 2 s: quotas are common again within seconds.
    pub store_backoff_min: Duration,
    pub store_backoff_max: Duration,
    /// How often an idle connection to the store is tried. 10 s.
    pub store_probe_interval: Duration,
    /// What the store may send for each question under way. 4 KiB: an answer has some 50 bytes a limit.
    pub store_answer_bytes_max: usize,
    /// Between two warnings about the same failure of the store. 60 s.
    pub store_warn_interval: Duration,
    /// Different label sets kept per worker; beyond it new ones are counted under `other`. 2 000.
    pub metric_series_max: usize,
    /// Addresses that are kept of callers in plaintext, for each port and worker: those seen last. 20: an operator looks after
    /// one after the other.
    pub plaintext_sources_max: usize,
    /// Spans that wait for the collector; what comes on top is lost, and counted. 8 192: some 10 MiB, and 40
    /// where strangers make them as large as they can.
    pub spans_waiting_max: usize,
    /// Spans that a worker hands over together, and batches on their way to the exporter. 64, and 256.
    pub spans_handed_max: usize,
    pub span_batches_max: usize,
    /// Spans of one export. 512, as OpenTelemetry's SDKs have it: some 500 KiB.
    pub spans_exported_max: usize,
    /// How long spans wait for others to go with. 1 s.
    pub span_export_delay: Duration,
    /// One export, connecting included. 10 s: `OTEL_EXPORTER_OTLP_TIMEOUT` where nobody says otherwise.
    pub span_export_timeout: Duration,
    /// The answer to an export, in bytes. 64 KiB.
    pub span_answer_bytes_max: usize,
    /// First pause after a failed export, doubled each time up to the maximum. 500 ms to 10 s.
    pub span_backoff_min: Duration,
    pub span_backoff_max: Duration,
    /// At the end of the process: for all that waits. 3 s: with the drain's deadline and the log's below the 30 s of ECS.
    pub span_flush_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 10_000,
            application_connections_max: 10_000,
            handshakes_max: 2_500,
            connections_per_address: Cap::AtMost(5_000),
            handshakes_per_address: Cap::AtMost(100),
            handover_queue_max: 256,
            accept_pause: Duration::from_millis(100),
            handshake_timeout: Duration::from_secs(10),
            header_read_timeout: Duration::from_secs(30),
            client_idle_timeout: Duration::from_secs(75),
            response_stall_timeout: None,
            body_timeout: None,
            requests_max: 10_000,
            requests_per_address: Cap::Unlimited,
            stream_idle_timeout: Duration::from_hours(1),
            request_duration_max: None,
            overload_lag: Duration::from_millis(500),
            http2_resets: Allowance { burst: 200, per_second: 20 },
            http2_control_frames: Allowance { burst: 1_000, per_second: 100 },
            http2_window_updates: Allowance { burst: 1_000, per_second: 100 },
            head_bytes_max: 64 * 1024,
            headers_max: 100,
            streams_max: 100,
            stream_window_bytes: 64 * 1024,
            connection_window_bytes: 100 * 64 * 1024,
            send_buffer_bytes: 64 * 1024,
            pending_reset_streams_max: 20,
            local_reset_streams_max: 1024,
            ping_interval: Duration::from_secs(30),
            ping_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(5),
            response_timeout: Duration::from_secs(60),
            attempts_max: 3,
            retry_body_bytes_max: 64 * 1024,
            idle_connections_max: 32,
            idle_timeout: Duration::from_secs(50),
            http2_connections_max: 4,
            discard_bytes_max: 64 * 1024,
            discard_timeout: Duration::from_secs(1),
            delays_max: 1_000,
            mirrors_max: 100,
            mirror_waiting_bytes_max: 256 * 1024,
            application_idle_timeout: Duration::from_secs(3600),
            tcp_idle_timeout: Duration::from_hours(1),
            tcp_first_byte_timeout: Duration::from_secs(1),
            tcp_buffer_bytes: 16 * 1024,
            tcp_keepalive: Duration::from_mins(1),
            tcp_report_interval: Duration::from_secs(5),
            expiry_grace: Duration::from_secs(5),
            dns_refresh: Duration::from_secs(30),
            dns_timeout: Duration::from_secs(5),
            endpoint_penalty: Duration::from_secs(10),
            unwell_penalty: Duration::from_secs(1),
            record_bytes_max: 4 * 1024 * 1024,
            limiter_keys_max: 1_000_000,
            store_in_flight_max: 1_000,
            store_connect_timeout: Duration::from_secs(1),
            store_backoff_min: Duration::from_millis(50),
            store_backoff_max: Duration::from_secs(2),
            store_probe_interval: Duration::from_secs(10),
            store_answer_bytes_max: 4 * 1024,
            store_warn_interval: Duration::from_mins(1),
            metric_series_max: 2_000,
            plaintext_sources_max: 20,
            spans_waiting_max: 8_192,
            spans_handed_max: 64,
            span_batches_max: 256,
            spans_exported_max: 512,
            span_export_delay: Duration::from_secs(1),
            span_export_timeout: Duration::from_secs(10),
            span_answer_bytes_max: 64 * 1024,
            span_backoff_min: Duration::from_millis(500),
            span_backoff_max: Duration::from_secs(10),
            span_flush_timeout: Duration::from_secs(3),
        }
    }
}

impl Limits {
    /// What an edge grants one address of so many requests, unless it is told otherwise. Behind load balancers too: whose
    /// request it is, the trusted hops tell.
    pub fn requests_per_address_of(requests_max: u64) -> Cap {
        Cap::AtMost(usize::try_from(requests_max.div_ceil(10)).unwrap_or(usize::MAX))
    }

    /// For an edge behind this many trusted proxies: with any, the peers are load balancers, and each of them speaks
    /// for many clients.
    pub fn edge(trusted_hops: u8) -> Self {
        let defaults = Self {
            connections_per_address: Cap::AtMost(1_000),
            header_read_timeout: Duration::from_secs(15),
            response_stall_timeout: Some(Duration::from_secs(60)),
            body_timeout: Some(Duration::from_secs(30)),
            requests_per_address: Self::requests_per_address_of(Self::default().requests_max),
            stream_idle_timeout: Duration::from_mins(5),
            ..Self::default()
        };
        if trusted_hops == 0 {
            return defaults;
        }
        Self { connections_per_address: Cap::Unlimited, handshakes_per_address: Cap::Unlimited, ..defaults }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_streams_of_a_connection_leave_room_for_one_more_window() {
        for limits in [Limits::default(), Limits::edge(0), Limits::edge(1)] {
            let all = limits.streams_max.checked_mul(limits.stream_window_bytes);
            assert!(all.is_some_and(|all| all <= limits.connection_window_bytes), "{limits:?}");
        }
    }
}
