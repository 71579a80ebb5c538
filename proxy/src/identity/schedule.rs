//! When to renew, when to try again, when to give up. Pure: time and chance are arguments.

use std::time::{Duration, SystemTime};

/// Renewal happens at half of what is left, give or take a tenth (as SPIRE does), so that a fleet that was started
/// together does not ask together.
const RENEW_JITTER: f64 = 0.1;

/// The life of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Validity {
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
}

/// Where a certificate stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    NotYetValid,
    Valid { left: Duration },
    Expired,
}

impl Validity {
    /// `notAfter` is the last second in which the certificate is valid (RFC 5280, section 4.1.2.5).
    pub(crate) fn standing(self, now: SystemTime) -> Standing {
        if now < self.not_before {
            return Standing::NotYetValid;
        }
        match self.not_after.duration_since(now) {
            Ok(left) if !left.is_zero() => Standing::Valid { left },
            _ => Standing::Expired,
        }
    }

    /// How long to wait, from `now`, the moment the certificate was received or found. `chance` lies in 0..1.
    ///
    /// Counted from now and not from `not_before`, because that is backdated: a short certificate would be renewed
    /// in a loop. One that was found past its half, after a restart, is due at once.
    pub(crate) fn renew_in(self, now: SystemTime, fresh: bool, chance: f64) -> Duration {
        let Standing::Valid { left } = self.standing(now) else {
            return Duration::ZERO;
        };
        let life = self.not_after.duration_since(self.not_before).unwrap_or_default();
        if !fresh && left < life / 2 {
            return Duration::ZERO;
        }
        let factor = 1.0 + RENEW_JITTER * (2.0 * chance.clamp(0.0, 1.0) - 1.0);
        (left / 2).mul_f64(factor)
    }
}

/// Exponential back-off with jitter: each pause lies between half and the whole of a bound that doubles.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    min: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    pub(crate) fn new(min: Duration, max: Duration) -> Self {
        Self { min, max, failures: 0 }
    }

    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// The next pause. `chance` lies in 0..1.
    pub(crate) fn next(&mut self, chance: f64) -> Duration {
        let doubled = 2_u32.checked_pow(self.failures).and_then(|factor| self.min.checked_mul(factor));
        let bound = doubled.unwrap_or(self.max).min(self.max);
        self.failures = self.failures.saturating_add(1);
        bound.mul_f64(0.5 + 0.5 * chance.clamp(0.0, 1.0))
    }
}

/// A number in 0..1 from the operating system's chance.
pub(crate) fn chance() -> f64 {
    rand::random()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKDATE: u64 = 300;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(10_000 + seconds)
    }

    fn issued_for(seconds: u64) -> Validity {
        Validity { not_before: at(0) - Duration::from_secs(BACKDATE), not_after: at(seconds) }
    }

    #[test]
    fn renews_at_half_of_what_is_left_with_a_tenth_of_jitter() {
        let rows = [
            // (ttl, now, fresh, chance, seconds to wait)
            (3600, 0, true, 0.5, 1800),
            (3600, 0, true, 0.0, 1620),
            (3600, 0, true, 1.0, 1980),
            (3600, 0, true, 7.0, 1980),
            // Backdating is longer than the life itself: still half of what is left.
            (10, 0, true, 0.5, 5),
            // Found again after a restart: before half of its life, then after it.
            (3600, 600, false, 0.5, 1500),
            (3600, 1650, false, 0.5, 975),
            (3600, 1651, false, 0.5, 0),
            (3600, 3599, false, 0.5, 0),
            // Expired, at the last second and long after.
            (3600, 3600, true, 0.5, 0),
            (3600, 9999, false, 0.5, 0),
        ];
        for (ttl, now, fresh, chance, seconds) in rows {
            let wait = issued_for(ttl).renew_in(at(now), fresh, chance);
            assert_eq!(wait, Duration::from_secs(seconds), "{ttl} {now} {fresh} {chance}");
        }
    }

    #[test]
    fn knows_where_a_certificate_stands() {
        let validity = Validity { not_before: at(10), not_after: at(20) };
        let rows = [
            (9, Standing::NotYetValid),
            (10, Standing::Valid { left: Duration::from_secs(10) }),
            (19, Standing::Valid { left: Duration::from_secs(1) }),
            (20, Standing::Expired),
            (21, Standing::Expired),
        ];
        for (now, standing) in rows {
            assert_eq!(validity.standing(at(now)), standing, "{now}");
        }
    }

    #[test]
    fn backs_off_exponentially_up_to_a_cap() {
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
        let pauses: Vec<_> = (0..9).map(|_| backoff.next(1.0).as_millis()).collect();
        assert_eq!(pauses, [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]);
        for _ in 0..100 {
            assert_eq!(backoff.next(0.0), Duration::from_secs(15));
        }
        backoff.reset();
        assert_eq!(backoff.next(0.0), Duration::from_millis(250));
    }
}
