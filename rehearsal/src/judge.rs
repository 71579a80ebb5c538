//! Whether what is seen is what was to hold.

use std::fmt;
use std::time::Duration;

use palisade_policy::rehearsal::{AbortWhen, Conditions};
use serde::{Serialize, Serializer};

use crate::observe::Counts;
use crate::sample::Window;

/// A condition that does not hold: what was seen, and what was to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Breach {
    NoRequests,
    /// None of them was sent, or none measured: nobody knows how long they would have taken.
    LatencyUnknown,
    /// Of a million; `at_least` is the bound.
    Success {
        ppm: u64,
        at_least: u32,
    },
    P50 {
        was: Duration,
        at_most: Duration,
    },
    P99 {
        was: Duration,
        at_most: Duration,
    },
    Duplicates {
        were: u64,
        at_most: u64,
    },
    Retries {
        were: u64,
        at_most: u64,
    },
    /// A proxy that could not be read.
    CountsUnknown {
        proxy: String,
    },
    /// `None`: it did not open at all.
    Breaker {
        after: Option<Duration>,
        within: Duration,
    },
    NotRecovered {
        within: Duration,
    },
    /// A step with a fault that no observed proxy has injected shows nothing.
    NothingInjected,
    /// Nothing was heard of the proxies by whose counts is judged.
    Blind {
        since: Duration,
    },
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRequests => write!(f, "there were no requests"),
            Self::LatencyUnknown => {
                write!(f, "how long requests take is not known: none was sent or measured")
            }
            Self::Success { ppm, at_least } => {
                write!(f, "{} succeeded, at least {} was to", percent(*ppm), percent(u64::from(*at_least)))
            }
            Self::P50 { was, at_most } => {
                write!(f, "p50 was {}, at most {} was to be", shown(*was), shown(*at_most))
            }
            Self::P99 { was, at_most } => {
                write!(f, "p99 was {}, at most {} was to be", shown(*was), shown(*at_most))
            }
            Self::Duplicates { were, at_most } => {
                write!(f, "{}, at most {at_most} was to be", duplicates(*were))
            }
            Self::Retries { were, at_most } => {
                write!(f, "{}, at most {at_most} was to be", retries(*were))
            }
            Self::CountsUnknown { proxy } => {
                write!(f, "what proxies count is not known: {proxy} could not be read")
            }
            Self::Breaker { after: Some(after), within } => {
                write!(f, "a breaker opened after {}, and was to within {}", shown(*after), shown(*within))
            }
            Self::Breaker { after: None, within } => {
                write!(f, "no breaker opened, and one was to within {}", shown(*within))
            }
            Self::NotRecovered { within } => write!(f, "not recovered within {}", shown(*within)),
            Self::NothingInjected => {
                write!(
                    f,
                    "no observed proxy injected the fault; observe those of the callers, and see whom it is for"
                )
            }
            Self::Blind { since } => write!(f, "nothing was heard of the proxies for {}", shown(*since)),
        }
    }
}

impl Serialize for Breach {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// `99.5 %`, never rounded up: what is not whole does not look it.
pub(crate) fn percent(ppm: u64) -> String {
    let hundredths = ppm / 100;
    let text = format!("{}.{:02}", hundredths / 100, hundredths % 100);
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

/// To three digits: `4.25 ms`, `1.3 s`.
pub(crate) fn shown(length: Duration) -> String {
    let (value, unit) = match length.as_secs_f64() {
        seconds if seconds >= 1.0 => (seconds, "s"),
        seconds => (seconds * 1e3, "ms"),
    };
    let decimals = match value {
        value if value >= 100.0 => 0,
        value if value >= 10.0 => 1,
        _ => 2,
    };
    let text = format!("{value:.decimals$}");
    let text = if decimals > 0 { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text} {unit}")
}

pub(crate) fn duplicates(count: u64) -> String {
    let plural = if count == 1 { "delivery" } else { "deliveries" };
    format!("{count} duplicate {plural}")
}

pub(crate) fn retries(count: u64) -> String {
    let plural = if count == 1 { "try" } else { "tries" };
    format!("{count} {plural} after the first")
}

/// What of these conditions requests do not keep to.
pub(crate) fn requests(conditions: &Conditions, window: &Window) -> Vec<Breach> {
    let Some(ppm) = window.success_ppm() else { return vec![Breach::NoRequests] };
    let mut breaches = Vec::new();
    if let Some(at_least) = conditions.success_ppm.filter(|least| ppm < u64::from(*least)) {
        breaches.push(Breach::Success { ppm, at_least });
    }
    // What is not known does not hold.
    let timed = conditions.p50.is_some() || conditions.p99.is_some();
    breaches.extend((timed && window.p99.is_none()).then_some(Breach::LatencyUnknown));
    if let Some((at_most, was)) = above(conditions.p50, window.p50) {
        breaches.push(Breach::P50 { was, at_most });
    }
    if let Some((at_most, was)) = above(conditions.p99, window.p99) {
        breaches.push(Breach::P99 { was, at_most });
    }
    breaches
}

/// Limit and value, where that is above.
fn above(limit: Option<Duration>, value: Option<Duration>) -> Option<(Duration, Duration)> {
    limit.zip(value).filter(|(limit, value)| value > limit)
}

/// What of these conditions the counts of proxies do not keep to.
pub(crate) fn counts(conditions: &Conditions, counted: Result<&Counts, &String>) -> Vec<Breach> {
    let Conditions { duplicates, retries, .. } = conditions;
    if duplicates.is_none() && retries.is_none() {
        return Vec::new();
    }
    let counted = match counted {
        Ok(counted) => counted,
        Err(proxy) => return vec![Breach::CountsUnknown { proxy: proxy.clone() }],
    };
    let over = |limit: Option<u64>, were| limit.filter(|most| were > *most).map(|at_most| (were, at_most));
    let of_duplicates = over(*duplicates, counted.duplicate_deliveries);
    let of_retries = over(*retries, counted.retries);
    let of_duplicates = of_duplicates.map(|(were, at_most)| Breach::Duplicates { were, at_most });
    let of_retries = of_retries.map(|(were, at_most)| Breach::Retries { were, at_most });
    of_duplicates.into_iter().chain(of_retries).collect()
}

/// Whether the breaker opened in time. `after`: from the begin of the step.
pub(crate) fn breaker(conditions: &Conditions, after: Option<Duration>) -> Option<Breach> {
    let within = conditions.breaker_within?;
    after.is_none_or(|after| after > within).then_some(Breach::Breaker { after, within })
}

/// The guard: why everything is to be mended at once.
pub(crate) fn guard(abort_when: &AbortWhen, window: &Window, duplicates: u64) -> Option<Breach> {
    if let Some(at_most) = abort_when.duplicates_above.filter(|most| duplicates > *most) {
        return Some(Breach::Duplicates { were: duplicates, at_most });
    }
    // Without requests nothing suffers.
    if let Some(ppm) = window.success_ppm()
        && let Some(at_least) = abort_when.success_below_ppm.filter(|least| ppm < u64::from(*least))
    {
        return Some(Breach::Success { ppm, at_least });
    }
    above(abort_when.p99_above, window.p99).map(|(at_most, was)| Breach::P99 { was, at_most })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn window(succeeded: u64, failed: u64, p99: u64) -> Window {
        Window { succeeded, failed, p50: Some(ms(p99 / 2)), p99: Some(ms(p99)), ..Window::default() }
    }

    fn said(breaches: impl IntoIterator<Item = Breach>) -> Vec<String> {
        breaches.into_iter().map(|breach| breach.to_string()).collect()
    }

    #[test]
    fn requests_keep_to_every_condition_that_is_written() {
        let all = Conditions {
            success_ppm: Some(990_000),
            p50: Some(ms(50)),
            p99: Some(ms(100)),
            ..Conditions::default()
        };
        let none = Conditions::default();
        let quick = Conditions { p99: Some(ms(100)), ..Conditions::default() };
        let unsent = Window { failed: 7, ..Window::default() };
        let rows: [(&Conditions, Window, &[&str]); 10] = [
            (&quick, unsent.clone(), &["how long requests take is not known: none was sent or measured"]),
            (&none, unsent, &[]),
            (&all, window(99, 1, 100), &[]),
            (&all, window(98, 1, 100), &["98.98 % succeeded, at least 99 % was to"]),
            (&all, window(100, 0, 101), &["p99 was 101 ms, at most 100 ms was to be"]),
            (
                &all,
                window(0, 7, 1500),
                &[
                    "0 % succeeded, at least 99 % was to",
                    "p50 was 750 ms, at most 50 ms was to be",
                    "p99 was 1.5 s, at most 100 ms was to be",
                ],
            ),
            (&all, window(0, 0, 1), &["there were no requests"]),
            (&none, window(0, 7, 99_000), &[]),
            (&none, window(0, 0, 1), &["there were no requests"]),
            (&Conditions { success_ppm: Some(0), ..none.clone() }, window(0, 7, 1), &[]),
        ];
        for (conditions, window, expected) in rows {
            assert_eq!(said(requests(conditions, &window)), expected, "{window:?}");
        }
    }

    #[test]
    fn what_nobody_could_count_does_not_hold() {
        let of = |duplicates, retries| Conditions { duplicates, retries, ..Conditions::default() };
        let counts = |duplicate_deliveries, retries| Ok(Counts { duplicate_deliveries, retries });
        let rows: [(_, _, &[&str]); 10] = [
            (of(Some(0), None), counts(0, 9), &[]),
            (of(Some(0), None), counts(1, 0), &["1 duplicate delivery, at most 0 was to be"]),
            (of(Some(3), None), counts(3, 0), &[]),
            (of(Some(3), None), counts(4, 0), &["4 duplicate deliveries, at most 3 was to be"]),
            (of(None, Some(0)), counts(9, 0), &[]),
            (of(None, Some(0)), counts(0, 2), &["2 tries after the first, at most 0 was to be"]),
            (
                of(Some(0), Some(0)),
                counts(1, 1),
                &["1 duplicate delivery, at most 0 was to be", "1 try after the first, at most 0 was to be"],
            ),
            (
                of(Some(0), Some(0)),
                Err("ledger"),
                &["what proxies count is not known: ledger could not be read"],
            ),
            (of(None, None), Err("ledger"), &[]),
            (of(None, None), counts(7, 7), &[]),
        ];
        for (conditions, counted, expected) in rows {
            let counted = counted.map_err(|proxy: &str| proxy.to_owned());
            assert_eq!(
                said(super::counts(&conditions, counted.as_ref())),
                expected,
                "{conditions:?} {counted:?}"
            );
        }
    }

    #[test]
    fn a_breaker_opens_in_time_or_the_step_does_not_hold() {
        let conditions = Conditions { breaker_within: Some(ms(2000)), ..Conditions::default() };
        assert_eq!(breaker(&conditions, Some(ms(2000))), None);
        let late = breaker(&conditions, Some(ms(2100))).unwrap().to_string();
        assert_eq!(late, "a breaker opened after 2.1 s, and was to within 2 s");
        let never = breaker(&conditions, None).unwrap().to_string();
        assert_eq!(never, "no breaker opened, and one was to within 2 s");
        assert_eq!(breaker(&Conditions::default(), None), None);
    }

    #[test]
    fn the_guard_breaks_on_any_of_its_limits() {
        let all = AbortWhen {
            success_below_ppm: Some(500_000),
            p99_above: Some(ms(1000)),
            duplicates_above: Some(0),
        };
        let rows = [
            (window(50, 50, 1000), 0, None),
            (window(49, 51, 1000), 0, Some("49 % succeeded, at least 50 % was to")),
            (window(100, 0, 1001), 0, Some("p99 was 1 s, at most 1 s was to be")),
            (window(100, 0, 1), 1, Some("1 duplicate delivery, at most 0 was to be")),
            (Window::default(), 0, None),
            (Window::default(), 2, Some("2 duplicate deliveries, at most 0 was to be")),
        ];
        for (window, duplicates, expected) in rows {
            let breach = guard(&all, &window, duplicates).map(|breach| breach.to_string());
            assert_eq!(breach.as_deref(), expected, "{window:?} {duplicates}");
        }
        assert_eq!(guard(&AbortWhen::default(), &window(0, 9, 99_999), 9), None);
    }

    #[test]
    fn numbers_are_short_and_never_better_than_they_are() {
        for (ppm, expected) in [
            (1_000_000, "100 %"),
            (999_999, "99.99 %"),
            (995_000, "99.5 %"),
            (0, "0 %"),
            (1, "0 %"),
            (900_000, "90 %"),
        ] {
            assert_eq!(percent(ppm), expected);
        }
        for (micros, expected) in [
            (0, "0 ms"),
            (4_250, "4.25 ms"),
            (12_340, "12.3 ms"),
            (250_000, "250 ms"),
            (1_300_000, "1.3 s"),
            (60_000_000, "60 s"),
            (600_000_000, "600 s"),
        ] {
            assert_eq!(shown(Duration::from_micros(micros)), expected);
        }
    }
}
