//! When single checks make a verdict: so many in a row, and never one alone where an operator wants more.

use std::time::Duration;

use crate::settings::health::HealthCheck;

/// Counts checks that speak against how things stand.
#[derive(Debug)]
pub(super) struct Judge {
    successes: u32,
    failures: u32,
    interval: Duration,
    healthy: bool,
    /// It was healthy once.
    started: bool,
    /// Checks in a row that say the opposite of `healthy`.
    against: u32,
}

impl Judge {
    pub(super) fn new(check: &HealthCheck) -> Self {
        Self {
            successes: check.success_threshold,
            failures: check.failure_threshold,
            interval: check.interval,
            healthy: false,
            started: false,
            against: 0,
        }
    }

    /// Takes a check into account. `true`: it turned the verdict round.
    pub(super) fn saw(&mut self, good: bool) -> bool {
        if good == self.healthy {
            self.against = 0;
            return false;
        }
        self.against = self.against.saturating_add(1);
        let needed = if good { self.successes } else { self.failures };
        if self.against < needed {
            return false;
        }
        self.against = 0;
        self.healthy = good;
        self.started |= good;
        true
    }

    pub(super) fn is_healthy(&self) -> bool {
        self.healthy
    }

    /// From the beginning of one check to that of the next.
    pub(super) fn pause(&self) -> Duration {
        if self.started { self.interval } else { self.interval.min(HealthCheck::START_INTERVAL) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `+` is a good check, `-` a bad one; what is expected is how things stand after each: `h`ealthy or `u`nhealthy.
    fn check(successes: u32, failures: u32, checks: &str, expected: &str) {
        let mut judge = Judge {
            successes,
            failures,
            interval: HealthCheck::INTERVAL,
            healthy: false,
            started: false,
            against: 0,
        };
        let mut stands = String::new();
        for result in checks.chars() {
            let before = judge.is_healthy();
            let changed = judge.saw(result == '+');
            assert_eq!(changed, judge.is_healthy() != before);
            stands.push(if judge.is_healthy() { 'h' } else { 'u' });
        }
        assert_eq!(stands, expected, "{successes} good, {failures} bad: {checks}");
    }

    #[test]
    fn so_many_checks_in_a_row_turn_the_verdict_and_any_other_begins_the_count_anew() {
        check(1, 3, "+", "h");
        check(1, 3, "--+", "uuh");
        check(1, 3, "+---", "hhhu");
        check(1, 3, "+--+--+--", "hhhhhhhhh");
        check(1, 3, "+---+", "hhhuh");
        check(2, 1, "+-+-++", "uuuuuh");
        check(2, 1, "++-+-++", "uhuuuuh");
        check(3, 2, "+++--+++", "uuhhuuuh");
        check(1, 1, "+-+-", "huhu");
    }

    #[test]
    fn an_application_that_alternates_turns_no_verdict_where_two_in_a_row_are_asked_for() {
        check(2, 2, &"+-".repeat(50), &"u".repeat(100));
        check(2, 2, &format!("++{}", "-+".repeat(50)), &format!("u{}", "h".repeat(101)));
    }

    #[test]
    fn until_it_was_healthy_once_it_is_asked_every_second() {
        let mut judge = Judge {
            successes: 1,
            failures: 1,
            interval: HealthCheck::INTERVAL,
            healthy: false,
            started: false,
            against: 0,
        };
        judge.saw(false);
        assert_eq!(judge.pause(), HealthCheck::START_INTERVAL);
        judge.saw(true);
        assert_eq!(judge.pause(), HealthCheck::INTERVAL);
        judge.saw(false);
        assert_eq!(judge.pause(), HealthCheck::INTERVAL, "a recovery is not waited for more often");
        let often = Judge { interval: Duration::from_millis(200), started: false, ..judge };
        assert_eq!(often.pause(), Duration::from_millis(200));
    }
}
