//! Faults that were injected, in the record.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use super::Record;

/// Envoy's flag for a delay.
const DELAYED: &str = "DI";
/// The flags that stand before it, in Envoy's order.
const BEFORE_DELAYED: [&str; 6] = ["UH", "UT", "UF", "UC", "UO", "NR"];

/// What was done to the request on purpose.
#[derive(Debug)]
pub(super) struct Injected {
    /// Who asked for it.
    pub(super) id: Arc<str>,
    /// How long it was to wait.
    pub(super) delay: Option<Duration>,
}

impl Record {
    /// Notes that the request waits now because a fault says so.
    pub(crate) fn delayed(&mut self, id: &Arc<str>, length: Duration) {
        self.worker.telemetry.count(|shard| shard.faults.injected(id, "delay"));
        self.fault = Some(Box::new(Injected { id: id.clone(), delay: Some(length) }));
    }

    /// Notes that the request is answered because a fault says so.
    pub(crate) fn aborted(&mut self, id: &Arc<str>) {
        self.worker.telemetry.count(|shard| shard.faults.injected(id, "abort"));
        self.details = Cow::Borrowed("fault_filter_abort");
        self.fault.get_or_insert_with(|| Box::new(Injected { id: id.clone(), delay: None }));
    }

    /// How long it was kept waiting on purpose, once that is over.
    pub(crate) fn held_up(&self) -> Duration {
        self.fault.as_ref().and_then(|fault| fault.delay).unwrap_or_default()
    }

    pub(super) fn is_delayed(&self) -> bool {
        self.fault.as_ref().is_some_and(|fault| fault.delay.is_some())
    }

    /// Envoy's flags, with commas between them; empty for none.
    pub(super) fn flags(&self) -> Cow<'static, str> {
        flags(self.flag, self.is_delayed())
    }
}

/// `flag`: how the request ended.
pub(crate) fn flags(flag: &'static str, delayed: bool) -> Cow<'static, str> {
    match flag {
        _ if !delayed => Cow::Borrowed(flag),
        "" => Cow::Borrowed(DELAYED),
        flag if BEFORE_DELAYED.contains(&flag) => Cow::Owned(format!("{flag},{DELAYED}")),
        flag => Cow::Owned(format!("{DELAYED},{flag}")),
    }
}

#[cfg(test)]
mod tests {
    use super::flags;

    #[test]
    fn flags_stand_in_envoys_order() {
        let rows = [
            ("", false, ""),
            ("UT", false, "UT"),
            ("", true, "DI"),
            ("UT", true, "UT,DI"),
            ("FI", true, "DI,FI"),
            ("DC", true, "DI,DC"),
        ];
        for (flag, delayed, expected) in rows {
            assert_eq!(flags(flag, delayed), expected);
        }
    }
}
