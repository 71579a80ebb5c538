//! The same question, answered from what the sidecars of a service counted and told the control plane.

use std::fmt;

use super::Verdict;

/// What was reported of one port of a service, all of its instances together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reported {
    /// Instances that are there, and of these the ones whose sidecars reported lately.
    pub instances: u32,
    pub reporting: u32,
    /// Since when all of them have counted. `None`: not all report.
    pub watched_seconds: Option<u64>,
    /// Requests and connections with a caller's certificate.
    pub mutual_tls: u64,
    /// How long ago the last plaintext was, served or turned away. `None`: there was none.
    pub plaintext_seconds_ago: Option<u64>,
}

/// What a verdict rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Because {
    /// Somebody called in plaintext, so many seconds ago.
    Plaintext { seconds_ago: u64 },
    /// Instances are known, and none is there to report.
    NoInstance,
    /// Not all sidecars report: who calls the others is not known.
    NotAllReport { reporting: u32, instances: u32 },
    /// All report, and for too short a time.
    WatchedTooShort { seconds: u64 },
    /// All report, and saw no call at all.
    NobodyCalled,
    /// Calls with certificates, and none in plaintext.
    NoPlaintext,
}

impl Reported {
    /// Whether STRICT would shut anybody out, and why that is said. `observed_seconds`: the time between calls of the rarest
    /// caller. A shorter watch tells nothing, and whoever called in plaintext longer ago than that does so no more.
    pub fn judge(&self, observed_seconds: u64) -> (Verdict, Because) {
        if let Some(seconds_ago) = self.plaintext_seconds_ago
            && seconds_ago <= observed_seconds
        {
            return (Verdict::NotReady, Because::Plaintext { seconds_ago });
        }
        let Self { instances, reporting, watched_seconds, .. } = *self;
        let unknown = match watched_seconds {
            _ if instances == 0 => Because::NoInstance,
            Some(_) if reporting < instances => Because::NotAllReport { reporting, instances },
            None => Because::NotAllReport { reporting, instances },
            Some(seconds) if seconds < observed_seconds => Because::WatchedTooShort { seconds },
            Some(_) if self.mutual_tls == 0 => Because::NobodyCalled,
            Some(_) => return (Verdict::Ready, Because::NoPlaintext),
        };
        (Verdict::Unknown, unknown)
    }
}

/// Seconds as people say them: `12s`, `5m`, `3h02m`.
#[derive(Clone, Copy, Debug)]
pub struct Span(pub u64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            seconds if seconds < 60 => write!(f, "{seconds}s"),
            seconds if seconds < 3600 => write!(f, "{}m", seconds / 60),
            seconds => write!(f, "{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        }
    }
}

impl fmt::Display for Because {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plaintext { seconds_ago: 0 } => f.write_str("plaintext now"),
            Self::Plaintext { seconds_ago } => write!(f, "plaintext {} ago", Span(*seconds_ago)),
            Self::NoInstance => f.write_str("no instance is there"),
            Self::NotAllReport { reporting: 0, .. } => f.write_str("no report"),
            Self::NotAllReport { reporting, instances } => {
                write!(f, "{reporting} of {instances} instances report")
            }
            Self::WatchedTooShort { seconds } => write!(f, "watched for {} only", Span(*seconds)),
            Self::NobodyCalled => f.write_str("nobody called"),
            Self::NoPlaintext => f.write_str("no plaintext"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two instances, all well for a day.
    const WELL: Reported = Reported {
        instances: 2,
        reporting: 2,
        watched_seconds: Some(86_400),
        mutual_tls: 9,
        plaintext_seconds_ago: None,
    };

    #[test]
    fn only_what_all_instances_watched_for_long_enough_without_plaintext_is_ready() {
        use Verdict::{NotReady, Ready, Unknown};
        let plaintext = |seconds_ago| Reported { plaintext_seconds_ago: Some(seconds_ago), ..WELL };
        let cases: [(Reported, Verdict, &str); 12] = [
            (WELL, Ready, "no plaintext"),
            (plaintext(86_401), Ready, "no plaintext"),
            (plaintext(86_400), NotReady, "plaintext 24h00m ago"),
            (plaintext(61), NotReady, "plaintext 1m ago"),
            (plaintext(0), NotReady, "plaintext now"),
            // What was seen was seen, however little else is known.
            (
                Reported { watched_seconds: None, reporting: 0, ..plaintext(59) },
                NotReady,
                "plaintext 59s ago",
            ),
            (Reported { watched_seconds: Some(86_399), ..WELL }, Unknown, "watched for 23h59m only"),
            (Reported { reporting: 1, watched_seconds: None, ..WELL }, Unknown, "1 of 2 instances report"),
            (Reported { reporting: 1, ..WELL }, Unknown, "1 of 2 instances report"),
            (Reported { reporting: 0, watched_seconds: None, ..WELL }, Unknown, "no report"),
            (Reported { instances: 0, reporting: 0, ..WELL }, Unknown, "no instance is there"),
            (Reported { mutual_tls: 0, ..WELL }, Unknown, "nobody called"),
        ];
        for (reported, verdict, because) in cases {
            let (judged, why) = reported.judge(86_400);
            assert_eq!((judged, why.to_string().as_str()), (verdict, because), "{reported:?}");
        }
        assert_eq!(Reported::default().judge(0).0, Unknown);
    }
}
