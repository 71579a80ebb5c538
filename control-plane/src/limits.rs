//! Every limit and deadline of the control plane: default, and why.
//!
//! Not options of the command line: a value that has to be changed is a bug report. Tests shorten them.

use std::time::Duration;

#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at once, handshakes included. Past it, new ones wait in the kernel's backlog. 4096: a proxy holds
    /// one or two, and each costs about 50 KiB.
    pub connections_max: usize,
    /// From accept to the end of the TLS handshake. 10 s: a slow link needs three round trips.
    pub handshake_timeout: Duration,
    /// Pause after an accept error (EMFILE, ENFILE): trying again at once would spin a core.
    pub accept_error_pause: Duration,
    /// Life of a connection without client certificate: it can only attest, which takes one call.
    pub anonymous_connection_max: Duration,
    /// HTTP/2 ping after this silence, so that a dead peer's endpoints go within the minute.
    pub keepalive_interval: Duration,
    /// A ping not answered for so long ends the connection.
    pub keepalive_timeout: Duration,
    /// HTTP/2 streams per connection: a proxy needs two, an operator's tool a few.
    pub streams_per_connection_max: u32,
    /// Headers of one request, decoded. tonic's own are under 1 KiB.
    pub header_list_bytes_max: u32,
    /// One message from an operator: a whole repository of policies.
    pub admin_message_bytes_max: usize,
    /// One message from a proxy (Hello with ports, a nack with findings) or for the identity service (token, CSR).
    pub proxy_message_bytes_max: usize,
    /// One message to anybody; a snapshot is the largest. 32 MiB is thousands of services.
    pub sent_message_bytes_max: usize,
    /// One call, from its headers to its answer, apart from the wait that `apply --wait` asks for.
    pub request_timeout: Duration,
    /// From the start of a configuration stream to its Hello.
    pub hello_timeout: Duration,
    /// How often a stream's client certificate is checked to be valid still.
    pub certificate_check_interval: Duration,
    /// A disconnected instance's endpoints stay this long: a reconnect is faster, a crash must not outlive it.
    pub disconnect_grace: Duration,
    /// The same after a start of the control plane: every proxy backs off and comes again, and until it has, callers
    /// must keep its endpoints.
    pub restart_grace: Duration,
    /// Changes in the registry are gathered this long before one push: a deployment changes many at once.
    pub registry_coalesce: Duration,
    /// Ports that one instance serves.
    pub served_ports_max: usize,
    /// Findings kept of one nack; a proxy can send what it wants.
    pub nack_findings_max: usize,
    /// Bytes kept of one text a proxy tells about itself (host name, version, a finding's message).
    pub proxy_text_bytes_max: usize,
    /// Addresses of callers in plaintext that are kept of one instance. 256: 64 ports by four, 16 KiB.
    pub call_sources_max: usize,
    /// Reports of callers that are looked at of one stream. A proxy sends one every 10 s, and one when a mode changes.
    pub call_reports_per_minute_max: u32,
    /// What a proxy may say that it has watched: ten years. Times are counted back from now.
    pub calls_watched_max: Duration,
    /// A report of callers that is older is none: six were left out.
    pub calls_age_max: Duration,
    /// Addresses of one port of a service in an answer.
    pub callers_max: usize,
    /// Longest `--wait`.
    pub wait_max: Duration,
    /// Files in one apply.
    pub files_max: usize,
    /// Objects in the set. Every one is read again on each apply.
    pub objects_max: usize,
    /// Versions of the policy set that can be looked at and brought back: half a year of five changes a day. Older ones are
    /// forgotten at the next housekeeping.
    pub history_versions_max: u64,
    /// Bytes of documents in them, together. 256 MiB: a disk of 1 GiB holds it thrice (log and backup).
    pub history_bytes_max: u64,
    /// Versions in one answer.
    pub history_page_max: u32,
    /// Bytes of the message of a change.
    pub message_bytes_max: usize,
    /// Labels of a join token, and bytes of each key and value.
    pub labels_max: usize,
    pub label_bytes_max: usize,
    /// Join tokens kept. Spent ones are removed after `spent_token_retention`.
    pub tokens_max: i64,
    pub token_ttl_default: Duration,
    pub token_ttl_max: Duration,
    pub token_uses_max: u32,
    pub spent_token_retention: Duration,
    /// Rows of the audit of certificates older than this are removed.
    pub audit_retention: Duration,
    /// How often spent tokens and old audit rows are removed.
    pub housekeeping_interval: Duration,
    /// Life of the operator's credential; renewed in place by a running control plane. 30 days: a copy on a laptop
    /// works for a month and a stolen one not for ever.
    pub operator_ttl: Duration,
    /// Life of the control plane's own certificate.
    pub server_ttl: Duration,
    /// How often the control plane looks whether its own certificates are at half of their life.
    pub own_certificate_check_interval: Duration,
    /// From the stop signal to the end of the last connection.
    pub drain_timeout: Duration,
    /// One request on the HTTP admin listener, and the connections it takes.
    pub http_admin_timeout: Duration,
    pub http_admin_connections_max: usize,
}

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
const DAY: u64 = 24 * 3600;

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 4096,
            handshake_timeout: Duration::from_secs(10),
            accept_error_pause: Duration::from_millis(500),
            anonymous_connection_max: Duration::from_secs(60),
            keepalive_interval: Duration::from_secs(20),
            keepalive_timeout: Duration::from_secs(10),
            streams_per_connection_max: 32,
            header_list_bytes_max: 16 * 1024,
            admin_message_bytes_max: 16 * MIB,
            proxy_message_bytes_max: 256 * KIB,
            sent_message_bytes_max: 32 * MIB,
            request_timeout: Duration::from_secs(15),
            hello_timeout: Duration::from_secs(10),
            certificate_check_interval: Duration::from_secs(1),
            disconnect_grace: Duration::from_secs(5),
            restart_grace: Duration::from_secs(60),
            registry_coalesce: Duration::from_millis(10),
            served_ports_max: 64,
            nack_findings_max: 32,
            proxy_text_bytes_max: KIB,
            call_sources_max: 256,
            call_reports_per_minute_max: 30,
            calls_watched_max: Duration::from_secs(3650 * DAY),
            calls_age_max: Duration::from_secs(60),
            callers_max: 100,
            wait_max: Duration::from_secs(60),
            files_max: 10_000,
            objects_max: 50_000,
            history_versions_max: 1000,
            history_bytes_max: 256 * 1024 * 1024,
            history_page_max: 1000,
            message_bytes_max: KIB,
            labels_max: 32,
            label_bytes_max: 253,
            tokens_max: 100_000,
            token_ttl_default: Duration::from_secs(3600),
            token_ttl_max: Duration::from_secs(7 * DAY),
            token_uses_max: 1_000_000,
            spent_token_retention: Duration::from_secs(30 * DAY),
            audit_retention: Duration::from_secs(90 * DAY),
            housekeeping_interval: Duration::from_secs(3600),
            operator_ttl: Duration::from_secs(30 * DAY),
            server_ttl: Duration::from_secs(DAY),
            own_certificate_check_interval: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(10),
            http_admin_timeout: Duration::from_secs(5),
            http_admin_connections_max: 32,
        }
    }
}
