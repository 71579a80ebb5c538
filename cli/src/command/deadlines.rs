//! How long an edge waits for its clients.

use std::time::Duration;

use palisade_proxy::settings::limits::Limits;
use palisade_proxy::settings::parse_duration;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Deadlines for clients")]
pub(super) struct Deadlines {
    /// From a connection to its finished handshake; in plaintext to its first byte.
    #[arg(long, env = "PALISADE_HANDSHAKE_TIMEOUT", value_name = "TIME", default_value = "10s",
          value_parser = parse_duration)]
    handshake_timeout: Duration,
    /// From the first byte of a request's head to its last.
    #[arg(long, env = "PALISADE_HEADER_TIMEOUT", value_name = "TIME", default_value = "15s",
          value_parser = parse_duration)]
    header_timeout: Duration,
    /// How long a connection may be without a request.
    #[arg(long, env = "PALISADE_IDLE_TIMEOUT", value_name = "TIME", default_value = "75s",
          value_parser = parse_duration)]
    idle_timeout: Duration,
    /// How long a client may take no byte of a response.
    #[arg(long, env = "PALISADE_SLOW_READER_TIMEOUT", value_name = "TIME", default_value = "60s",
          value_parser = parse_duration)]
    slow_reader_timeout: Duration,
    /// How long a client may let us wait for a KiB of its request body, all waits together.
    #[arg(long, env = "PALISADE_BODY_TIMEOUT", value_name = "TIME", default_value = "30s",
          value_parser = parse_duration)]
    body_timeout: Duration,
    /// How long a stream (an answer that has begun, a call of gRPC, a tunnel) may carry no byte either way.
    #[arg(long, env = "PALISADE_STREAM_IDLE_TIMEOUT", value_name = "TIME", default_value = "5m",
          value_parser = parse_duration)]
    stream_idle_timeout: Duration,
}

impl Deadlines {
    pub(super) fn over(self, limits: Limits) -> Limits {
        Limits {
            handshake_timeout: self.handshake_timeout,
            header_read_timeout: self.header_timeout,
            client_idle_timeout: self.idle_timeout,
            response_stall_timeout: Some(self.slow_reader_timeout),
            body_timeout: Some(self.body_timeout),
            stream_idle_timeout: self.stream_idle_timeout,
            ..limits
        }
    }
}
