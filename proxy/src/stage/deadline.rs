//! When nobody waits for an answer any more: told from hop to hop, so that work in vain is not begun.
//!
//! Between sidecars `x-palisade-timeout-ms` says how long the caller still waits; clocks of two hosts need not agree. To the
//! application its sidecar writes `x-palisade-deadline`, in milliseconds since 1970 by the clock that both have; an application
//! that passes it on with its own calls has them end in time. gRPC has `grpc-timeout`, which is kept up to date.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::Request;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::Instant;

use crate::http::body::Tally;

/// How long the caller still waits, in milliseconds. Between sidecars.
pub(crate) const TIMEOUT_MS: HeaderName = HeaderName::from_static("x-palisade-timeout-ms");
/// Until when, in milliseconds since 1970. Between an application and its sidecar.
pub(crate) const DEADLINE: HeaderName = HeaderName::from_static("x-palisade-deadline");
/// <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// Nobody waits for longer; keeps sums of times within their range.
const LONGEST: Duration = Duration::from_hours(24 * 365);

/// The end of a request's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Deadline {
    pub(crate) at: Instant,
    /// Policy set it, and not the caller: a server that misses it is slow.
    pub(crate) ours: bool,
    /// From the request's beginning; begins anew while the caller gets on with its body, if it is ours.
    period: Duration,
}

/// What a caller said of its time; read before its headers are cleaned.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Told(Option<Duration>);

impl Told {
    /// By the application beside us.
    pub(crate) fn by_application(headers: &HeaderMap, grpc: bool, now: SystemTime) -> Self {
        let until =
            number(headers, &DEADLINE).map(|ms| UNIX_EPOCH + Duration::from_millis(ms).min(LONGEST * 1000));
        let left = until.map(|until| until.duration_since(now).unwrap_or_default());
        Self(least(left, grpc_timeout(headers, grpc)))
    }

    /// By another sidecar.
    pub(crate) fn by_sidecar(headers: &HeaderMap, grpc: bool) -> Self {
        let left = number(headers, &TIMEOUT_MS).map(Duration::from_millis);
        Self(least(left, grpc_timeout(headers, grpc)))
    }

    /// By anybody.
    pub(crate) fn by_stranger(headers: &HeaderMap, grpc: bool) -> Self {
        Self(grpc_timeout(headers, grpc))
    }

    /// What is left of it after so long.
    pub(crate) fn after(self, spent: Duration) -> Self {
        Self(self.0.map(|told| told.saturating_sub(spent)))
    }

    /// The deadline of a request that came at `began`; `policy`: what a route or a setting allows it.
    pub(crate) fn deadline(self, began: Instant, policy: Option<Duration>) -> Option<Deadline> {
        let Self(told) = self;
        let ours = match (told, policy) {
            (None, None) => return None,
            (Some(told), Some(policy)) => policy <= told,
            (told, _) => told.is_none(),
        };
        let least = least(told, policy)?.min(LONGEST);
        Some(Deadline { at: began + least, ours, period: least })
    }
}

impl Deadline {
    /// Tells the next hop what is left. `false`: nothing is.
    pub(crate) fn write<B>(&self, request: &mut Request<B>, mesh: bool, grpc: bool) -> bool {
        let left = self.at.saturating_duration_since(Instant::now());
        let millis = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        if millis == 0 {
            return false;
        }
        let headers = request.headers_mut();
        if mesh {
            headers.insert(TIMEOUT_MS, HeaderValue::from(millis));
        }
        if grpc && let Ok(value) = HeaderValue::from_str(&written(left)) {
            headers.insert(GRPC_TIMEOUT, value);
        }
        true
    }

    /// Tells the application beside us. The request `began` at this time by the clock.
    pub(crate) fn tell_application(&self, headers: &mut HeaderMap, (began, clock): (Instant, SystemTime)) {
        let left = self.at.saturating_duration_since(began);
        let until = clock.duration_since(UNIX_EPOCH).unwrap_or_default() + left;
        headers.insert(DEADLINE, HeaderValue::from(u64::try_from(until.as_millis()).unwrap_or(u64::MAX)));
    }
}

/// Returns when nobody waits any longer. As with Envoy, what policy allows a request begins with the end of its body: while the
/// caller gets on with that, it is put off.
pub(crate) async fn over(deadline: Option<Deadline>, tally: &Tally) {
    let Some(deadline) = deadline else { return std::future::pending().await };
    let mut seen = tally.progress();
    loop {
        tokio::time::sleep_until(tally.deadline.get().unwrap_or(deadline.at)).await;
        let now = tally.progress();
        if !deadline.ours || now == seen {
            return;
        }
        seen = now;
        tally.deadline.set(Some(Instant::now() + deadline.period));
    }
}

fn least(a: Option<Duration>, b: Option<Duration>) -> Option<Duration> {
    a.into_iter().chain(b).min()
}

/// One line of digits; anything else says nothing.
fn number(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    let mut lines = headers.get_all(name).iter();
    let line = lines.next().filter(|_| lines.next().is_none())?;
    digits(line.as_bytes(), 15)
}

fn digits(text: &[u8], max: usize) -> Option<u64> {
    if text.is_empty() || text.len() > max || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn grpc_timeout(headers: &HeaderMap, grpc: bool) -> Option<Duration> {
    if !grpc {
        return None;
    }
    let (unit, value) = headers.get(GRPC_TIMEOUT)?.as_bytes().split_last()?;
    let value = digits(value, 8)?;
    Some(match unit {
        b'H' => Duration::from_secs(value.saturating_mul(3600)),
        b'M' => Duration::from_secs(value.saturating_mul(60)),
        b'S' => Duration::from_secs(value),
        b'm' => Duration::from_millis(value),
        b'u' => Duration::from_micros(value),
        b'n' => Duration::from_nanos(value),
        _ => return None,
    })
}

/// At most eight digits, rounded down: the server must not have longer than its caller.
fn written(left: Duration) -> String {
    for (number, unit) in [(left.as_micros(), 'u'), (left.as_millis(), 'm')] {
        if number < 100_000_000 {
            return format!("{number}{unit}");
        }
    }
    format!("{}S", left.as_secs().min(99_999_999))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&HeaderName, &str)]) -> HeaderMap {
        let line = |(name, value): &(&HeaderName, &str)| ((*name).clone(), value.parse().unwrap());
        let mut out = HeaderMap::new();
        for (name, value) in lines.iter().map(line) {
            out.append(name, value);
        }
        out
    }

    #[test]
    fn grpc_timeouts_are_read_in_every_unit_and_nothing_else_is() {
        let rows = [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("3S", Some(Duration::from_secs(3))),
            ("99999999m", Some(Duration::from_millis(99_999_999))),
            ("5u", Some(Duration::from_micros(5))),
            ("6n", Some(Duration::from_nanos(6))),
            ("0S", Some(Duration::ZERO)),
            ("123456789m", None),
            ("1", None),
            ("S", None),
            ("", None),
            ("-1S", None),
            ("1.5S", None),
            ("1s", None),
        ];
        for (text, expected) in rows {
            let headers = headers(&[(&GRPC_TIMEOUT, text)]);
            assert_eq!(grpc_timeout(&headers, true), expected, "{text:?}");
            assert_eq!(grpc_timeout(&headers, false), None, "only gRPC has it");
        }
    }

    #[test]
    fn what_is_left_is_written_in_eight_digits_and_rounded_down() {
        for (left, expected) in [
            (Duration::from_nanos(1_999), "1u"),
            (Duration::from_secs(10), "10000000u"),
            (Duration::from_secs(100), "100000m"),
            (Duration::from_hours(24 * 365), "31536000S"),
        ] {
            assert_eq!(written(left), expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_shorter_of_policy_and_caller_holds_and_only_policy_says_that_a_server_is_slow() {
        let now = Instant::now();
        let s = Duration::from_secs;
        for (told, policy, expected) in [
            (None, None, None),
            (Some(s(1)), None, Some((s(1), false))),
            (None, Some(s(2)), Some((s(2), true))),
            (Some(s(1)), Some(s(2)), Some((s(1), false))),
            (Some(s(3)), Some(s(2)), Some((s(2), true))),
            (Some(s(u64::MAX)), None, Some((LONGEST, false))),
        ] {
            let got = Told(told).deadline(now, policy);
            assert_eq!(got.map(|deadline| (deadline.at - now, deadline.ours)), expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn applications_are_told_a_time_and_sidecars_how_long() {
        let clock = UNIX_EPOCH + Duration::from_secs(1_000);
        let told = Told::by_application(&headers(&[(&DEADLINE, "1000250")]), false, clock);
        let deadline = told.deadline(Instant::now(), None).unwrap();
        tokio::time::advance(Duration::from_millis(100)).await;
        let mut request = Request::new(());
        assert!(deadline.write(&mut request, true, false));
        assert_eq!(request.headers()[TIMEOUT_MS], "150");
        let there = Told::by_sidecar(request.headers(), false).deadline(Instant::now(), None).unwrap();
        let mut passed_on = HeaderMap::new();
        there.tell_application(&mut passed_on, (Instant::now(), clock));
        assert_eq!(passed_on[DEADLINE], "1000150");
        tokio::time::advance(Duration::from_millis(150)).await;
        assert!(!deadline.write(&mut request, true, false), "nothing is left");
    }

    #[test]
    fn a_time_that_is_no_number_or_comes_twice_says_nothing() {
        for lines in
            [&[(&TIMEOUT_MS, "1"), (&TIMEOUT_MS, "2")][..], &[(&TIMEOUT_MS, "x")], &[(&TIMEOUT_MS, "-1")]]
        {
            assert_eq!(Told::by_sidecar(&headers(lines), false).0, None);
        }
        let past =
            Told::by_application(&headers(&[(&DEADLINE, "5")]), false, UNIX_EPOCH + Duration::from_secs(9));
        assert_eq!(past.0, Some(Duration::ZERO));
    }
}
