//! A FaultExperiment made ready for requests: what is done to attempts of one proxy on purpose, to which, and until when.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::fault::AbortAnswer;
use crate::kind::request_match::{MatchView, RequestMatch};

/// One FaultExperiment, for the proxy that it was compiled for. Its destinations share it.
#[derive(Clone, Debug)]
pub struct Experiment {
    /// `namespace/name`. Records, metrics and traces name it, and what is under way is counted by it.
    pub id: Arc<str>,
    pub starts_at: SystemTime,
    /// 1 s to 24 h, and no longer than the mesh allows.
    pub duration: Duration,
    /// Of a million attempts.
    pub share_ppm: u32,
    /// Attempts of one proxy that may be under it at once; more go on unharmed. 1 to 10 000.
    pub max_active: u32,
    /// Before the request is sent.
    pub delay: Option<DelayLength>,
    /// What happens in place of the answer, or to it.
    pub harm: Option<Harm>,
    /// Of the answer's body.
    pub pace: Option<Pace>,
    pub matches: Matches,
}

/// How long an attempt waits before it is sent. Each length is 1 ms to 1 h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DelayLength {
    Fixed(Duration),
    /// Every length from `min` to `max` is as likely as any other.
    Uniform {
        min: Duration,
        max: Duration,
    },
    /// Many short ones and a few long ones. What is drawn beyond `max` is `max`; `mean` is that of the draw before.
    Exponential {
        mean: Duration,
        max: Duration,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    /// This is answered; nothing is sent.
    Abort(AbortAnswer),
    /// As if the connection broke before an answer came; nothing is sent.
    Reset,
    /// The upstream has processed the request, and its answer is lost.
    Drop,
    /// The answer's body breaks off.
    Truncate { after_bytes: u64 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// A pause of 1 ms to 1 h after each part.
    Slow {
        every_bytes: NonZeroU64,
        pause: Duration,
    },
    Bandwidth {
        bytes_per_second: NonZeroU64,
    },
}

/// Which attempts an experiment is about. Without items: all of them.
#[derive(Clone, Debug, Default)]
pub struct Matches {
    pub(crate) items: Box<[Item]>,
}

/// All of it must fit.
#[derive(Clone, Debug, Default)]
pub(crate) struct Item {
    pub(crate) request: RequestMatch,
    pub(crate) headers: Box<[(HeaderName, HeaderValue)]>,
}

impl Experiment {
    /// The first moment at which it is over.
    pub fn ends_at(&self) -> SystemTime {
        // Beyond what a clock can tell it has no duration: nothing goes on for ever.
        self.starts_at.checked_add(self.duration).unwrap_or(self.starts_at)
    }

    /// Whether it is under way by the wall clock.
    pub fn is_on(&self, now: SystemTime) -> bool {
        self.starts_at <= now && now < self.ends_at()
    }

    /// Whether an attempt is one of those that it is about. The headers are compared as they are in `headers`: one line of
    /// the name, and the same bytes.
    pub fn fits(&self, view: &MatchView<'_>, headers: &HeaderMap) -> bool {
        self.matches.fits(view, headers)
    }
}

impl Matches {
    fn fits(&self, view: &MatchView<'_>, headers: &HeaderMap) -> bool {
        self.items.is_empty() || self.items.iter().any(|item| item.fits(view, headers))
    }
}

impl Item {
    fn fits(&self, view: &MatchView<'_>, headers: &HeaderMap) -> bool {
        self.headers.iter().all(|(name, value)| only(headers, name) == Some(value))
            && self.request.matches(view)
    }
}

/// Of two lines nobody knows which one was meant: then no harm is done.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h HeaderValue> {
    let mut lines = headers.get_all(name).iter();
    lines.next().filter(|_| lines.next().is_none())
}

impl DelayLength {
    /// The length for a number that was drawn evenly from 0.0 to 1.0; what lies outside counts as the nearer end.
    pub fn drawn(&self, unit: f64) -> Duration {
        let unit = if unit.is_nan() { 0.0 } else { unit.clamp(0.0, 1.0) };
        match *self {
            Self::Fixed(length) => length,
            Self::Uniform { min, max } => min.saturating_add(stretched(max.saturating_sub(min), unit)),
            // The inverse of its distribution function. At 1.0 it is infinite.
            Self::Exponential { mean, max } => stretched(mean, -(-unit).ln_1p()).min(max),
        }
    }

    /// What no draw goes beyond.
    pub fn longest(&self) -> Duration {
        match *self {
            Self::Fixed(length) => length,
            Self::Uniform { max, .. } | Self::Exponential { max, .. } => max,
        }
    }
}

fn stretched(length: Duration, factor: f64) -> Duration {
    Duration::try_from_secs_f64(length.as_secs_f64() * factor).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::problem::Problems;
    use crate::kind::request_match::{Effect, MatchItem};

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn lengths_are_drawn_from_their_distribution_and_within_their_bounds() {
        let uniform = DelayLength::Uniform { min: MS(1000), max: MS(3000) };
        let exponential = DelayLength::Exponential { mean: MS(500), max: MS(5000) };
        let rows = [
            (DelayLength::Fixed(MS(2000)), 0.7, 2000),
            (uniform, 0.0, 1000),
            (uniform, 0.25, 1500),
            (uniform, 1.0, 3000),
            (exponential, 0.0, 0),
            // The median of an exponential distribution is its mean times ln 2.
            (exponential, 0.5, 347),
            (exponential, 0.9, 1151),
            (exponential, 0.999_99, 5000),
            (exponential, 1.0, 5000),
        ];
        for (length, unit, expected) in rows {
            let drawn = length.drawn(unit);
            assert!(drawn.abs_diff(MS(expected)) < MS(1), "{length:?} at {unit}: {drawn:?}");
        }
    }

    #[test]
    fn no_number_makes_a_length_beyond_the_bounds() {
        let rows = [
            DelayLength::Fixed(MS(5)),
            DelayLength::Uniform { min: MS(5), max: MS(5) },
            // Never compiled so; must not panic all the same.
            DelayLength::Uniform { min: MS(5), max: MS(1) },
            DelayLength::Exponential { mean: Duration::MAX, max: MS(5) },
        ];
        for length in rows {
            for unit in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 2.0, f64::MIN_POSITIVE] {
                assert!(length.drawn(unit) <= MS(5), "{length:?} at {unit}");
            }
        }
    }

    fn experiment(starts_at: SystemTime, duration: Duration) -> Experiment {
        Experiment {
            id: "payments/slow".into(),
            starts_at,
            duration,
            share_ppm: 1_000_000,
            max_active: 100,
            delay: None,
            harm: Some(Harm::Reset),
            pace: None,
            matches: Matches::default(),
        }
    }

    #[test]
    fn it_is_on_from_its_start_until_its_end() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let one = experiment(at(1000), Duration::from_secs(300));
        assert_eq!(one.ends_at(), at(1300));
        for (now, on) in [(999, false), (1000, true), (1299, true), (1300, false), (9999, false)] {
            assert_eq!(one.is_on(at(now)), on, "at {now}");
        }
    }

    #[test]
    fn an_end_that_no_clock_reaches_is_no_time_to_begin() {
        let one = experiment(SystemTime::UNIX_EPOCH, Duration::MAX);
        assert!(!one.is_on(SystemTime::UNIX_EPOCH + Duration::from_secs(1)));
    }

    #[test]
    fn an_item_fits_where_the_request_and_every_header_do() {
        let request = MatchItem { methods: vec!["POST".into()], ..MatchItem::default() };
        let request = RequestMatch::new(&[request], Effect::Restricts, "match", &mut Problems::default());
        let header = (HeaderName::from_static("x-fault-test"), HeaderValue::from_static("abc"));
        let item = Item { request, headers: [header].into() };
        let mut one = experiment(SystemTime::UNIX_EPOCH, MS(1));
        one.matches = Matches { items: [item].into() };
        let rows: [(&str, &[&str], bool); 6] = [
            ("POST", &["abc"], true),
            ("GET", &["abc"], false),
            ("POST", &[], false),
            ("POST", &["ABC"], false),
            ("POST", &["abc", "abc"], false),
            ("POST", &["abc, abc"], false),
        ];
        for (method, lines, expected) in rows {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append("x-fault-test", HeaderValue::from_static(line));
            }
            let view = MatchView { host: "ledger.payments", method, path: "/", route: None };
            assert_eq!(one.fits(&view, &headers), expected, "{method} {lines:?}");
        }
        assert!(
            experiment(SystemTime::UNIX_EPOCH, MS(1))
                .fits(&MatchView { host: "", method: "GET", path: "/", route: None }, &HeaderMap::new())
        );
    }
}
