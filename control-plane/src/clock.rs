//! Wall-clock time, passed in: tokens and certificates expire by it, and tests move it.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

/// Where the control plane reads the time of day.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    fn now(&self) -> SystemTime;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// Seconds since 1970, as the store keeps times. Saturates at both ends.
pub(crate) fn to_seconds(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX))
}

pub(crate) fn from_seconds(seconds: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

/// RFC 3339 in UTC, as the admin API shows times.
pub(crate) fn rfc3339(seconds: i64) -> String {
    Timestamp::from_second(seconds).map_or_else(|_| String::new(), |t| t.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_survive_the_way_there_and_back() {
        assert_eq!(to_seconds(from_seconds(1_800_000_000)), 1_800_000_000);
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
    }

    #[test]
    fn times_before_1970_and_absurd_ones_do_not_panic() {
        assert_eq!(to_seconds(UNIX_EPOCH - Duration::from_secs(5)), 0);
        assert_eq!(to_seconds(from_seconds(-5)), 0);
        assert_eq!(rfc3339(i64::MAX), "");
    }
}
