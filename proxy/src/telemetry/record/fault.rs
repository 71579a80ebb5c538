//! Faults that were injected, in the record.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Response, Version};
use smallvec::SmallVec;

use super::Record;
use crate::error::ProxyError;

/// Envoy's flag for a delay.
const DELAYED: &str = "DI";
/// The flags that stand before it, in Envoy's order.
const BEFORE_DELAYED: [&str; 6] = ["UH", "UT", "UF", "UC", "UO", "NR"];

/// What is done on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FaultType {
    /// Of the request.
    Delay,
    Abort,
    Reset,
    Drop,
    Truncate,
    /// Of the answer's body.
    Slow,
    /// The same, evenly.
    Bandwidth,
}

impl FaultType {
    /// In records, metrics and traces.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Delay => "delay",
            Self::Abort => "abort",
            Self::Reset => "reset",
            Self::Drop => "drop",
            Self::Truncate => "truncate",
            Self::Slow => "slow",
            Self::Bandwidth => "bandwidth",
        }
    }

    /// Whether something took longer because of it.
    fn delays(self) -> bool {
        matches!(self, Self::Delay | Self::Slow | Self::Bandwidth)
    }
}

/// What was done to a request on purpose: as a rule one thing, and no more than a few to each of its tries.
#[derive(Debug, Default)]
pub(crate) struct Injected {
    /// Who asked for it: a route of a VirtualService, or a FaultExperiment.
    marks: SmallVec<[(Arc<str>, FaultType); 2]>,
    /// How long it was to wait.
    pub(crate) delay: Option<Duration>,
}

impl Injected {
    pub(crate) fn note(&mut self, id: &Arc<str>, kind: FaultType) {
        if !self.marks.iter().any(|(known, of)| known == id && *of == kind) {
            self.marks.push((id.clone(), kind));
        }
    }

    /// All who asked for it, with commas between them.
    pub(crate) fn ids(&self) -> String {
        listed(self.marks.iter().map(|(id, _)| &**id))
    }

    /// All that was done.
    pub(crate) fn types(&self) -> String {
        listed(self.marks.iter().map(|(_, kind)| kind.name()))
    }
}

/// Each once, in the order of their first.
fn listed<'t>(texts: impl Iterator<Item = &'t str>) -> String {
    let mut seen = SmallVec::<[&str; 4]>::new();
    let mut out = String::new();
    for text in texts {
        if !seen.contains(&text) {
            let comma = if seen.is_empty() { "" } else { "," };
            let _infallible = write!(out, "{comma}{text}");
            seen.push(text);
        }
    }
    out
}

impl Record {
    /// Notes that this is done to the request because `id` says so.
    pub(crate) fn injected(&mut self, id: &Arc<str>, kind: FaultType) {
        self.worker.telemetry.count(|shard| shard.faults.injected(id, kind.name()));
        self.fault.get_or_insert_default().note(id, kind);
        if let Some(trace) = &mut self.trace {
            trace.injected(id, kind);
        }
    }

    /// Notes that the request waits now because a fault says so.
    pub(crate) fn delayed(&mut self, id: &Arc<str>, length: Duration) {
        self.injected(id, FaultType::Delay);
        let fault = self.fault.get_or_insert_default();
        fault.delay = Some(fault.delay.unwrap_or_default().saturating_add(length));
    }

    /// Notes that the request is answered because a fault of its route says so.
    pub(crate) fn aborted(&mut self, id: &Arc<str>) {
        self.injected(id, FaultType::Abort);
        self.details = Cow::Borrowed("fault_filter_abort");
    }

    /// Notes that an experiment would have done something, but that it does enough already.
    pub(crate) fn spared(&self, id: &Arc<str>) {
        self.worker.telemetry.count(|shard| shard.faults.dropped(id));
    }

    /// Whether the caller can tell that the answer's body broke off: one of HTTP/1.0 that is told no length takes the end of the
    /// connection for the end of the body.
    pub(crate) fn tells_length_of<B>(&self, response: &Response<B>) -> bool {
        self.version != Version::HTTP_10 || response.headers().contains_key(CONTENT_LENGTH)
    }

    /// An experiment breaks the answer off. Gives trailers as `idle` does.
    pub(crate) fn truncated(&mut self, id: &Arc<str>) -> Option<HeaderMap> {
        self.injected(id, FaultType::Truncate);
        self.broken_off(&ProxyError::FaultTruncate, "fault_truncate_after_response_started")
    }

    /// How long it was kept waiting on purpose, once that is over.
    pub(crate) fn held_up(&self) -> Duration {
        self.fault.as_ref().and_then(|fault| fault.delay).unwrap_or_default()
    }

    pub(super) fn is_delayed(&self) -> bool {
        self.fault.as_ref().is_some_and(|fault| fault.marks.iter().any(|(_, kind)| kind.delays()))
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
    use super::*;

    #[test]
    fn who_asked_for_several_things_is_named_once_and_so_is_each_thing() {
        let (slow, lost) = ("payments/slow".into(), "payments/lost".into());
        let mut injected = Injected::default();
        assert_eq!((injected.ids(), injected.types()), (String::new(), String::new()));
        for (id, kind) in [(&slow, FaultType::Delay), (&slow, FaultType::Truncate), (&slow, FaultType::Delay)]
        {
            injected.note(id, kind);
        }
        assert_eq!((injected.ids().as_str(), injected.types().as_str()), ("payments/slow", "delay,truncate"));
        injected.note(&lost, FaultType::Delay);
        assert_eq!(injected.ids(), "payments/slow,payments/lost");
        assert_eq!(injected.types(), "delay,truncate");
    }

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
