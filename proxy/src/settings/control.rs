//! Every cap and deadline of the control thread, in one table (invariant 6).

use std::time::Duration;

/// What the control thread takes at most, and how long it waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlLimits {
    /// TCP and TLS to the control plane, name resolution included. 5 s: three SYNs (1 s + 2 s back-off).
    pub connect_timeout: Duration,
    /// One Attest or Renew. 10 s: the control plane writes to a disk in between.
    pub issue_timeout: Duration,
    /// From an opened stream to its response head. 10 s.
    pub stream_open_timeout: Duration,
    /// HTTP/2 ping on the stream, and how long the answer may take. 10 s and 5 s: a dead control plane is known
    /// of within 15 s, and a NAT forgets no sooner than 30 s.
    pub ping_interval: Duration,
    pub ping_timeout: Duration,
    /// One message from the control plane. 16 MiB: some 50 000 endpoints.
    pub message_bytes_max: usize,
    /// Messages that wait to be sent to the control plane. 16.
    pub outbox_max: usize,
    /// Between two reports of who called. 10 s: 400 messages a second of 4 000 proxies.
    pub calls_interval: Duration,
    /// First pause after a failed issue, doubled each time up to the maximum. 500 ms to 30 s.
    pub issue_backoff_min: Duration,
    pub issue_backoff_max: Duration,
    /// The same for the stream: a restarted control plane has its proxies back within seconds. 100 ms to 10 s.
    pub stream_backoff_min: Duration,
    pub stream_backoff_max: Duration,
    /// Between two warnings about the same lasting failure. 60 s.
    pub warn_interval: Duration,
    /// A policy, certificate or token file. 1 MiB.
    pub file_bytes_max: u64,
    /// Files in the policies directory. 1 000, and 16 MiB together.
    pub policy_files_max: usize,
    pub policy_bytes_max: usize,
    /// Changed files must stay the same for so long before they are read as whole. 50 ms: one write of a tool that
    /// does not rename.
    pub file_settle: Duration,
    /// Connections to the admin listener. 32: a scraper, a health check and a few terminals.
    pub admin_connections_max: usize,
    /// One admin request: its head, and its answer. 5 s.
    pub admin_timeout: Duration,
    /// Head of an admin request. 16 KiB.
    pub admin_head_bytes_max: usize,
}

impl Default for ControlLimits {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            issue_timeout: Duration::from_secs(10),
            stream_open_timeout: Duration::from_secs(10),
            ping_interval: Duration::from_secs(10),
            ping_timeout: Duration::from_secs(5),
            message_bytes_max: 16 * 1024 * 1024,
            outbox_max: 16,
            calls_interval: Duration::from_secs(10),
            issue_backoff_min: Duration::from_millis(500),
            issue_backoff_max: Duration::from_secs(30),
            stream_backoff_min: Duration::from_millis(100),
            stream_backoff_max: Duration::from_secs(10),
            warn_interval: Duration::from_mins(1),
            file_bytes_max: 1024 * 1024,
            policy_files_max: 1_000,
            policy_bytes_max: 16 * 1024 * 1024,
            file_settle: Duration::from_millis(50),
            admin_connections_max: 32,
            admin_timeout: Duration::from_secs(5),
            admin_head_bytes_max: 16 * 1024,
        }
    }
}
