//! Which endpoints are left out for a while, and when they come back. Time is an argument: milliseconds since the proxy's
//! start.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use palisade_policy::traffic::{OutlierDetection, SuccessRate};

use super::endpoint::{Cause, Endpoint};

/// Why an endpoint that should be left out is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// It is out already.
    Already,
    /// As many are out as may be.
    TooMany,
}

/// Leaves `endpoint` out. `all`: the endpoints of its cluster. The time that it stays out grows with each time.
pub(crate) fn eject(
    endpoint: &Endpoint,
    cause: Cause,
    all: &[Arc<Endpoint>],
    rules: &OutlierDetection,
    now: u64,
) -> Result<Duration, Kept> {
    if endpoint.out(now).is_some() {
        return Err(Kept::Already);
    }
    let out = all.iter().filter(|other| other.out(now).is_some()).count();
    if out >= most_out(all.len(), rules) {
        return Err(Kept::TooMany);
    }
    let times = endpoint.times.fetch_add(1, Relaxed).saturating_add(1);
    let time = rules.base_ejection.saturating_mul(times).min(rules.max_ejection.max(rules.base_ejection));
    endpoint.set_out(cause, now.saturating_add(millis(time)));
    Ok(time)
}

/// One may always be out, as with Envoy: with ten percent of three endpoints nothing would ever be.
fn most_out(all: usize, rules: &OutlierDetection) -> usize {
    let share = all.saturating_mul(usize::from(rules.max_ejection_percent)) / 100;
    if rules.max_ejection_percent == 0 { 0 } else { share.max(1) }
}

/// Whether so few endpoints are left that requests go to all of them: an outage of everything is worse than an answer
/// from an endpoint in doubt.
pub(crate) fn panics(all: usize, out: usize, rules: &OutlierDetection) -> bool {
    let left = all.saturating_sub(out).saturating_mul(100);
    left < all.saturating_mul(usize::from(rules.min_health_percent))
}

/// At the end of an interval: endpoints that did well for it stay out less long the next time, and those whose success rate is
/// an outlier are named.
pub(crate) fn look(all: &[Arc<Endpoint>], rules: &OutlierDetection, now: u64) -> Vec<Arc<Endpoint>> {
    let mut rates = Vec::new();
    for endpoint in all {
        let (answers, good) = endpoint.interval();
        if endpoint.out(now).is_some() {
            continue;
        }
        let times = endpoint.times.load(Relaxed);
        if times > 0 && now.saturating_sub(endpoint.out_until.load(Relaxed)) >= millis(rules.interval) {
            endpoint.times.store(times.saturating_sub(1), Relaxed);
        }
        let Some(rule) = &rules.success_rate else { continue };
        if answers >= rule.request_volume.max(1) {
            rates.push((endpoint, f64::from(good) / f64::from(answers)));
        }
    }
    match &rules.success_rate {
        Some(rule) => outliers(&rates, rule),
        None => Vec::new(),
    }
}

/// Those below the mean by more than so many standard deviations.
fn outliers(rates: &[(&Arc<Endpoint>, f64)], rule: &SuccessRate) -> Vec<Arc<Endpoint>> {
    let Ok(count) = u32::try_from(rates.len()) else { return Vec::new() };
    if count < rule.minimum_hosts.max(1) {
        return Vec::new();
    }
    let mean = rates.iter().map(|(_, rate)| rate).sum::<f64>() / f64::from(count);
    let variance = rates.iter().map(|(_, rate)| (rate - mean).powi(2)).sum::<f64>() / f64::from(count);
    let least = mean - variance.sqrt() * f64::from(rule.stdev_factor_thousandths) / 1000.0;
    rates.iter().filter(|(_, rate)| *rate < least).map(|(endpoint, _)| Arc::clone(endpoint)).collect()
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::upstream::endpoint::Seen;

    fn endpoints(n: u16) -> Vec<Arc<Endpoint>> {
        (1..=n).map(|port| Arc::new(Endpoint::new(SocketAddr::from(([127, 0, 0, 1], port)), 0))).collect()
    }

    fn rules(max_ejection_percent: u8) -> OutlierDetection {
        OutlierDetection { max_ejection_percent, ..OutlierDetection::default() }
    }

    #[test]
    fn one_endpoint_may_always_be_left_out_and_no_more_than_the_share() {
        for (all, percent, most) in [(3, 10, 1), (1, 10, 1), (20, 10, 2), (4, 50, 2), (4, 100, 4), (4, 0, 0)]
        {
            let (all, rules) = (endpoints(all), rules(percent));
            let out = all.iter().filter(|e| eject(e, Cause::Consecutive5xx, &all, &rules, 0).is_ok()).count();
            assert_eq!(out, most, "{percent} % of {}", all.len());
        }
    }

    #[test]
    fn that_an_endpoint_is_back_is_known_once_for_each_time_with_what_it_was_left_out_for() {
        let (rules, all) = (rules(100), endpoints(1));
        assert_eq!(all[0].back(0), None, "it was never out");
        let mut now = 0;
        for cause in [Cause::Consecutive5xx, Cause::SuccessRate] {
            now += millis(eject(&all[0], cause, &all, &rules, now).unwrap());
            assert_eq!(all[0].back(now - 1), None);
            assert_eq!((all[0].back(now), all[0].back(now)), (Some(cause), None));
        }
    }

    #[test]
    fn the_time_out_grows_up_to_its_bound_and_shrinks_again_with_good_intervals() {
        let rules = OutlierDetection {
            base_ejection: Duration::from_secs(30),
            max_ejection: Duration::from_secs(80),
            ..OutlierDetection::default()
        };
        let all = endpoints(1);
        let mut now = 0;
        let mut times = Vec::new();
        for _ in 0..4 {
            let time = eject(&all[0], Cause::Consecutive5xx, &all, &rules, now).unwrap();
            assert_eq!(eject(&all[0], Cause::Consecutive5xx, &all, &rules, now), Err(Kept::Already));
            assert_eq!(all[0].out(now + millis(time) - 1), Some(Cause::Consecutive5xx));
            now += millis(time);
            assert_eq!(all[0].out(now), None, "it is back when the time is over");
            times.push(time.as_secs());
        }
        assert_eq!(times, [30, 60, 80, 80]);
        for _ in 0..4 {
            now += millis(rules.interval);
            look(&all, &rules, now);
        }
        assert_eq!(eject(&all[0], Cause::Consecutive5xx, &all, &rules, now).unwrap().as_secs(), 30);
    }

    #[test]
    fn with_too_few_left_all_are_asked() {
        let rules =
            |min_health_percent| OutlierDetection { min_health_percent, ..OutlierDetection::default() };
        for (all, out, min, expected) in
            [(4, 2, 50, false), (4, 3, 50, true), (1, 1, 0, false), (1, 1, 1, true), (4, 0, 100, false)]
        {
            assert_eq!(panics(all, out, &rules(min)), expected, "{out} of {all} out, {min} %");
        }
    }

    fn rate(endpoint: &Endpoint, good: u32, bad: u32) {
        let rules = OutlierDetection { consecutive_5xx: 0, ..OutlierDetection::default() };
        for _ in 0..good {
            endpoint.saw(Seen::Status(200), &rules);
        }
        for _ in 0..bad {
            endpoint.saw(Seen::Status(500), &rules);
        }
    }

    #[test]
    fn an_endpoint_that_succeeds_far_less_often_than_the_others_is_an_outlier() {
        let rules = OutlierDetection::default();
        let all = endpoints(6);
        for endpoint in &all[..5] {
            rate(endpoint, 199, 1);
        }
        rate(&all[5], 120, 80);
        let named = look(&all, &rules, 1);
        assert_eq!(named.iter().map(|e| e.address.port()).collect::<Vec<_>>(), [6]);
        assert!(look(&all, &rules, 2).is_empty(), "each interval begins anew");

        // Too few requests, too few endpoints, or not asked for.
        rate(&all[5], 10, 80);
        all[..5].iter().for_each(|e| rate(e, 200, 0));
        assert!(look(&all, &rules, 3).is_empty(), "90 requests are not enough to tell");
        all[..4].iter().for_each(|e| rate(e, 100, 100 * u32::from(e.address.port() == 1)));
        assert!(look(&all, &rules, 4).is_empty(), "four endpoints are not enough to tell");
        all.iter().for_each(|e| rate(e, 100, 100 * u32::from(e.address.port() == 1)));
        assert!(look(&all, &OutlierDetection { success_rate: None, ..rules }, 5).is_empty());
    }
}
