//! What one look at a proxy's metrics says.

use std::collections::BTreeMap;
use std::time::Duration;

use palisade_policy::rehearsal::{Live, Reporter};

use super::exposition::{Series, series};

/// Bounds of a connection pool that refuse requests. A retry that is not made refuses nothing.
const REFUSING: [&str; 3] = ["connections", "pending", "requests"];

/// Counts since the proxy has started.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Page {
    /// Whether it watches for deliveries that come twice.
    pub(super) watches: bool,
    pub(super) duplicates: u64,
    /// Tries after the first, by destination.
    pub(super) retries: BTreeMap<String, u64>,
    /// Faults, by who asked for them.
    pub(super) injected: BTreeMap<String, u64>,
    /// How often what opened, by destination and cause.
    pub(super) breakers: BTreeMap<(String, String), u64>,
    pub(super) traffic: Traffic,
}

/// Requests as the proxy counts them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Traffic {
    pub(super) succeeded: u64,
    /// By status.
    pub(super) failures: BTreeMap<String, u64>,
    /// Of all: how many took no longer than so many milliseconds. Not cumulative.
    pub(super) buckets: Vec<(Duration, u64)>,
    /// Longer than the last bucket.
    pub(super) above: u64,
}

impl Page {
    /// `live`: whose requests are wanted; `None` where the proxy's traffic is not.
    pub(super) fn read(text: &str, live: Option<&Live>) -> Self {
        let mut page = Self::default();
        let mut cumulative = BTreeMap::<u64, u64>::new();
        let mut all = 0;
        for series in series(text) {
            let Some(count) = series.count() else { continue };
            match series.name {
                "palisade_duplicate_watch" => page.watches |= count > 0,
                "palisade_duplicate_deliveries_total" => page.duplicates += count,
                "palisade_upstream_retries_total" => add(&mut page.retries, &series, "cluster", count),
                "palisade_faults_injected_total" => add(&mut page.injected, &series, "fault", count),
                "palisade_upstream_ejections_total" => page.breaker(&series, "cause", count),
                "palisade_upstream_overflow_total"
                    if series.label("bound").is_some_and(|bound| REFUSING.contains(&bound)) =>
                {
                    page.breaker(&series, "bound", count);
                }
                "istio_requests_total" if is_wanted(&series, live) => page.traffic.count(&series, count),
                "istio_request_duration_milliseconds_bucket" if is_wanted(&series, live) => {
                    match series.label("le").and_then(microseconds) {
                        Some(bound) => *cumulative.entry(bound).or_default() += count,
                        None => all += count,
                    }
                }
                _ => {}
            }
        }
        page.traffic.buckets(&cumulative, all);
        page
    }

    fn breaker(&mut self, series: &Series<'_>, cause: &str, count: u64) {
        let label = |name| series.label(name).unwrap_or("unknown").to_owned();
        *self.breakers.entry((label("cluster"), label(cause))).or_default() += count;
    }
}

/// By the value of a label.
fn add(all: &mut BTreeMap<String, u64>, series: &Series<'_>, label: &str, count: u64) {
    *all.entry(series.label(label).unwrap_or_default().to_owned()).or_default() += count;
}

fn is_wanted(series: &Series<'_>, live: Option<&Live>) -> bool {
    let Some(Live { service, reporter, .. }) = live else { return false };
    let is_of = |service: &String| series.label("destination_service") == Some(service);
    series.label("reporter") == Some(Reporter::name(*reporter)) && service.as_ref().is_none_or(is_of)
}

impl Traffic {
    /// What is the caller's own fault, it gets whatever is broken.
    fn count(&mut self, series: &Series<'_>, count: u64) {
        let status = series.label("response_code").unwrap_or("0");
        if matches!(status.parse(), Ok(200..=499_u16)) {
            self.succeeded += count;
        } else {
            *self.failures.entry(status.to_owned()).or_default() += count;
        }
    }

    /// Prometheus's buckets hold those of all smaller ones; `all` is the one without a bound.
    fn buckets(&mut self, cumulative: &BTreeMap<u64, u64>, all: u64) {
        let mut below = 0;
        for (bound, count) in cumulative {
            self.buckets.push((Duration::from_micros(*bound), count.saturating_sub(below)));
            below = *count;
        }
        self.above = all.saturating_sub(below);
    }
}

/// Of a bound in milliseconds. `None`: it has none.
#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked to be within the range of a day"
)]
fn microseconds(text: &str) -> Option<u64> {
    let value: f64 = text.parse().ok()?;
    (0.0..=86_400_000.0).contains(&value).then_some((value * 1000.0).round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
palisade_duplicate_watch 1
palisade_duplicate_deliveries_total{known_by="key",refused="false"} 2
palisade_duplicate_deliveries_total{known_by="attempt",refused="true"} 1
palisade_upstream_retries_total{cluster="outbound|8080||ledger.fintech"} 7
palisade_faults_injected_total{fault="fintech/slow",type="delay"} 5
palisade_faults_injected_total{fault="fintech/slow",type="drop"} 6
palisade_upstream_ejections_total{cluster="outbound|8080||ledger.fintech",cause="consecutive_5xx"} 3
palisade_upstream_overflow_total{cluster="outbound|8080||ledger.fintech",bound="requests"} 4
palisade_upstream_overflow_total{cluster="outbound|8080||ledger.fintech",bound="retries"} 9
istio_requests_total{reporter="source",destination_service="ledger.fintech",response_code="201"} 10
istio_requests_total{reporter="source",destination_service="ledger.fintech",response_code="404"} 1
istio_requests_total{reporter="source",destination_service="ledger.fintech",response_code="503"} 5
istio_requests_total{reporter="source",destination_service="other.fintech",response_code="200"} 100
istio_requests_total{reporter="destination",destination_service="ledger.fintech",response_code="200"} 1000
istio_request_duration_milliseconds_bucket{reporter="source",destination_service="ledger.fintech",response_code="201",le="0.5"} 2
istio_request_duration_milliseconds_bucket{reporter="source",destination_service="ledger.fintech",response_code="201",le="10"} 9
istio_request_duration_milliseconds_bucket{reporter="source",destination_service="ledger.fintech",response_code="201",le="+Inf"} 10
istio_request_duration_milliseconds_bucket{reporter="source",destination_service="ledger.fintech",response_code="503",le="0.5"} 0
istio_request_duration_milliseconds_bucket{reporter="source",destination_service="ledger.fintech",response_code="503",le="10"} 4
istio_request_duration_milliseconds_bucket{reporter="source",destination_service="ledger.fintech",response_code="503",le="+Inf"} 6
"#;

    fn live(service: Option<&str>) -> Live {
        let service = service.map(ToOwned::to_owned);
        Live { proxies: vec!["payments".into()], service, reporter: Reporter::Source }
    }

    #[test]
    fn a_page_says_what_came_twice_what_opened_and_what_passed() {
        let page = Page::read(TEXT, Some(&live(Some("ledger.fintech"))));
        assert!(page.watches);
        assert_eq!(page.duplicates, 3);
        assert_eq!(page.retries.values().sum::<u64>(), 7);
        assert_eq!(page.injected, BTreeMap::from([("fintech/slow".to_owned(), 11)]));
        let cluster = "outbound|8080||ledger.fintech".to_owned();
        let breakers =
            [((cluster.clone(), "consecutive_5xx".to_owned()), 3), ((cluster, "requests".to_owned()), 4)];
        assert_eq!(page.breakers, BTreeMap::from(breakers), "a retry that is not made is no breaker");
        assert_eq!(page.traffic.succeeded, 11);
        assert_eq!(page.traffic.failures, BTreeMap::from([("503".to_owned(), 5)]));
        let buckets = [(Duration::from_micros(500), 2), (Duration::from_millis(10), 11)];
        assert_eq!((page.traffic.buckets, page.traffic.above), (buckets.to_vec(), 3));
    }

    #[test]
    fn traffic_is_of_the_service_that_is_asked_for_or_of_all() {
        assert_eq!(Page::read(TEXT, Some(&live(None))).traffic.succeeded, 111);
        assert_eq!(Page::read(TEXT, None).traffic, Traffic::default());
        assert!(!Page::read("", None).watches, "nothing said is no watch");
    }
}
