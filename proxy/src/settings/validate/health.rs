//! Whether a health check, and a limit of requests at once, fit what is served.

use palisade_policy::kind::service_entry::Protocol;

use super::{Listener, SettingError, out_of_range, overlap};
use crate::settings::Settings;
use crate::settings::health::{HealthCheck, Question, Target};

impl Settings {
    pub(super) fn check_concurrency(&self, errors: &mut Vec<SettingError>) {
        let limits_something = self.serves.iter().any(|serve| serve.protocol != Protocol::Tcp);
        if self.adaptive_concurrency.is_some() && !limits_something {
            errors.push(SettingError::NothingToLimit);
        }
    }

    pub(super) fn check_health(&self, listeners: &[Listener], errors: &mut Vec<SettingError>) {
        let Some(health) = &self.health else { return };
        let check = health.probe.to_string();
        match health.target(&self.serves) {
            _ if self.serves.is_empty() => errors.push(SettingError::NothingToCheck),
            None => errors.push(SettingError::HealthPort(check)),
            Some(Target { address, .. }) => {
                if let Some(listener) = listeners.iter().find(|l| overlap(l.address, address)) {
                    let listener = listener.name.clone();
                    errors.push(SettingError::HealthLoop { check, address, listener });
                }
            }
        }
        if !health.headers.is_empty() && !matches!(health.probe.question, Question::Http(_)) {
            errors.push(SettingError::HealthHeaders);
        }
        for (option, value, range) in [
            ("--health-check-interval", health.interval, HealthCheck::INTERVALS),
            ("--health-check-timeout", health.timeout, HealthCheck::TIMEOUTS),
            ("--health-check-initial-delay", health.initial_delay, HealthCheck::DELAYS),
        ] {
            errors.extend(out_of_range(option, value, range));
        }
        for (option, value) in [
            ("--health-check-success-threshold", health.success_threshold),
            ("--health-check-failure-threshold", health.failure_threshold),
        ] {
            if !HealthCheck::THRESHOLDS.contains(&value) {
                let (min, max) = HealthCheck::THRESHOLDS.into_inner();
                let [value, min, max] = [value, min, max].map(|n| usize::try_from(n).unwrap_or(usize::MAX));
                errors.push(SettingError::Count { option, value, min, max });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::tests::{check, settings};
    use super::*;
    use crate::settings::Serve;

    #[test]
    fn refuses_health_checks_that_do_not_fit_what_is_served() {
        let health = |probe: &str| {
            Some(HealthCheck {
                probe: probe.parse().unwrap(),
                headers: Vec::new(),
                initial_delay: Duration::ZERO,
                interval: HealthCheck::INTERVAL,
                timeout: HealthCheck::TIMEOUT,
                success_threshold: HealthCheck::SUCCESSES,
                failure_threshold: HealthCheck::FAILURES,
            })
        };
        let mut good = settings();
        good.health = health("http:/healthz");
        good.validate().unwrap();
        let with = |s: &mut Settings, change: fn(&mut HealthCheck)| {
            s.health = health("http:/healthz");
            change(s.health.as_mut().unwrap());
        };
        check(
            |s| {
                s.serves.clear();
                s.health = health("tcp:8080");
            },
            "there is none",
        );
        check(
            |s| {
                s.serves.push(Serve::parse("9090,listen=0.0.0.0:15007").unwrap());
                s.health = health("grpc");
            },
            "--health-check grpc names no port",
        );
        check(|s| s.health = health("http:15000/ready"), "127.0.0.1:15000, where --admin listens");
        check(
            |s| {
                s.health = health("tcp");
                s.health.as_mut().unwrap().headers.push((http::header::HOST, "a".parse().unwrap()));
            },
            "has no headers",
        );
        check(|s| with(s, |h| h.interval = Duration::ZERO), "--health-check-interval is 0ns");
        check(|s| with(s, |h| h.timeout = Duration::from_mins(2)), "--health-check-timeout is 120s");
        check(|s| with(s, |h| h.initial_delay = Duration::from_hours(2)), "--health-check-initial-delay");
        check(|s| with(s, |h| h.success_threshold = 0), "--health-check-success-threshold is 0");
        check(|s| with(s, |h| h.failure_threshold = 101), "--health-check-failure-threshold is 101");
    }
}
