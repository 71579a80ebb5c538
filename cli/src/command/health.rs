//! How a sidecar asks its application whether it is well.

use std::time::Duration;

use http::{HeaderName, HeaderValue};
use palisade_proxy::settings::health::{HealthCheck, Probe};
use palisade_proxy::settings::{parse_check_header, parse_duration};

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Health of the application")]
pub(super) struct Health {
    /// How the application is asked, on loopback, whether it is well: http:[PORT]/PATH (a status from 200 to 399 is good),
    /// grpc[:[PORT][/SERVICE]] (grpc.health.v1 says SERVING), tcp[:PORT] (a connection is taken). PORT is one that the
    /// application listens on, that of the only --serve unless given. Until it is well, and while it is not, requests are refused
    /// with 503 and the instance is withdrawn from the mesh [default: it is not asked, and counts as well].
    #[arg(long, env = "PALISADE_HEALTH_CHECK", value_name = "CHECK")]
    health_check: Option<Probe>,
    /// A header of each check by http. May be repeated; `;` separates several in the variable.
    #[arg(long, env = "PALISADE_HEALTH_CHECK_HEADER", value_name = "NAME=VALUE", value_delimiter = ';',
          value_parser = parse_check_header, requires = "health_check", hide_env_values = true)]
    health_check_header: Vec<(HeaderName, HeaderValue)>,
    /// From the sidecar's start to the first check.
    #[arg(long, env = "PALISADE_HEALTH_CHECK_INITIAL_DELAY", value_name = "TIME", default_value = "0s",
          value_parser = parse_duration, requires = "health_check")]
    health_check_initial_delay: Duration,
    /// How often it is asked; each second at least until it was well for the first time.
    #[arg(long, env = "PALISADE_HEALTH_CHECK_INTERVAL", value_name = "TIME", default_value = "10s",
          value_parser = parse_duration, requires = "health_check")]
    health_check_interval: Duration,
    /// How long a check may take, connecting included.
    #[arg(long, env = "PALISADE_HEALTH_CHECK_TIMEOUT", value_name = "TIME", default_value = "1s",
          value_parser = parse_duration, requires = "health_check")]
    health_check_timeout: Duration,
    /// Good checks in a row after which it is well.
    #[arg(long, env = "PALISADE_HEALTH_CHECK_SUCCESS_THRESHOLD", value_name = "N", requires = "health_check",
          default_value_t = HealthCheck::SUCCESSES)]
    health_check_success_threshold: u32,
    /// Bad checks in a row after which it is not.
    #[arg(long, env = "PALISADE_HEALTH_CHECK_FAILURE_THRESHOLD", value_name = "N", requires = "health_check",
          default_value_t = HealthCheck::FAILURES)]
    health_check_failure_threshold: u32,
}

impl Health {
    pub(super) fn settings(self) -> Option<HealthCheck> {
        Some(HealthCheck {
            probe: self.health_check?,
            headers: self.health_check_header,
            initial_delay: self.health_check_initial_delay,
            interval: self.health_check_interval,
            timeout: self.health_check_timeout,
            success_threshold: self.health_check_success_threshold,
            failure_threshold: self.health_check_failure_threshold,
        })
    }
}
