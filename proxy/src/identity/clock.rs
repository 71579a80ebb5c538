use std::fmt::Debug;
use std::time::SystemTime;

/// Wall-clock time for certificates. Waits use tokio's clock; only this says what time it is.
pub trait Clock: Debug + Send + Sync {
    fn now(&self) -> SystemTime;
}

#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// `2026-11-23T22:02:07Z`, for texts that people read.
pub(crate) fn show(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).map_or_else(
        |_out_of_range| "a time out of range".into(),
        |time| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
    )
}

/// Seconds since the epoch, 0 for times before it.
pub(crate) fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
