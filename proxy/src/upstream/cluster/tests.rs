use palisade_policy::traffic::{RetryBudget, SuccessRate};
use tokio::time::advance;

use super::*;
use crate::upstream::endpoint::Local;

const SECOND: Duration = Duration::from_secs(1);

/// With as many endpoints, and these rules of leaving them out.
fn cluster(endpoints: u16, outliers: OutlierDetection) -> (Arc<Cluster>, Vec<Arc<Endpoint>>) {
    let cluster = Cluster::new("outbound|8080||ledger.bank".into(), Instant::now());
    cluster.traffic.store(Arc::new(Traffic { outliers: Some(outliers), ..Traffic::default() }));
    let addresses: Vec<_> = (1..=endpoints).map(|port| SocketAddr::from(([127, 0, 0, 1], port))).collect();
    let all = cluster.endpoints(&addresses);
    (Arc::new(cluster), all)
}

fn rules() -> OutlierDetection {
    OutlierDetection { consecutive_5xx: 3, max_ejection_percent: 50, ..OutlierDetection::default() }
}

fn fail(cluster: &Cluster, endpoint: &Endpoint, times: u32) {
    (0..times).for_each(|_| cluster.saw(endpoint, Seen::Status(503)));
}

fn out(cluster: &Cluster, endpoint: &Endpoint) -> Option<Cause> {
    endpoint.out(cluster.now())
}

/// So long, with its look every second.
async fn pass(cluster: &Cluster, time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        advance(SECOND).await;
        cluster.look();
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_is_left_out_for_longer_each_time_and_less_long_after_good_intervals() {
    let (cluster, all) = cluster(4, rules());
    for (times, seconds) in [(1, 30), (2, 60), (3, 90)] {
        fail(&cluster, &all[0], 2);
        assert_eq!(out(&cluster, &all[0]), None, "two in a row are borne");
        fail(&cluster, &all[0], 1);
        assert_eq!(out(&cluster, &all[0]), Some(Cause::Consecutive5xx));
        assert_eq!(all[0].standing(cluster.now()).ejections, times);
        pass(&cluster, Duration::from_secs(seconds) - SECOND).await;
        assert!(out(&cluster, &all[0]).is_some() && cluster.troubled().is_some(), "{seconds}");
        pass(&cluster, SECOND).await;
        assert_eq!(out(&cluster, &all[0]), None, "{seconds}");
    }
    pass(&cluster, Duration::from_secs(45)).await;
    fail(&cluster, &all[0], 3);
    assert!(all[0].standing(cluster.now()).ejections < 3, "it did well meanwhile");
    assert_eq!(cluster.ejections[0].load(Relaxed), 4);
}

#[tokio::test(start_paused = true)]
async fn no_more_endpoints_are_left_out_than_may_be() {
    let (cluster, all) = cluster(4, rules());
    all.iter().for_each(|endpoint| fail(&cluster, endpoint, 3));
    let left_out: Vec<_> = all.iter().map(|endpoint| out(&cluster, endpoint).is_some()).collect();
    assert_eq!(left_out, [true, true, false, false]);
    assert!(!cluster.panics());
    let stricter = OutlierDetection { min_health_percent: 60, ..rules() };
    cluster.traffic.store(Arc::new(Traffic { outliers: Some(stricter), ..Traffic::default() }));
    assert!(cluster.panics(), "half of them are left");
}

#[tokio::test(start_paused = true)]
async fn one_that_succeeds_less_often_than_the_others_is_left_out_at_the_end_of_an_interval() {
    let success_rate = Some(SuccessRate { request_volume: 20, ..SuccessRate::default() });
    let (cluster, all) = cluster(5, OutlierDetection { success_rate, consecutive_5xx: 0, ..rules() });
    for (n, endpoint) in all.iter().enumerate() {
        for request in 0..20 {
            let status = if n == 4 && request % 2 == 0 { 500 } else { 200 };
            cluster.saw(endpoint, Seen::Status(status));
        }
    }
    pass(&cluster, SECOND * 9).await;
    assert!(all.iter().all(|endpoint| out(&cluster, endpoint).is_none()), "not before its end");
    pass(&cluster, SECOND).await;
    let causes: Vec<_> = all.iter().map(|endpoint| out(&cluster, endpoint)).collect();
    assert_eq!(causes, [None, None, None, None, Some(Cause::SuccessRate)]);
    assert_eq!(cluster.ejections[index(Cause::SuccessRate)].load(Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn failures_of_our_own_side_are_counted_apart_where_the_rule_says_so() {
    let split = OutlierDetection { split_local: true, consecutive_local: 2, ..rules() };
    let (cluster, all) = cluster(4, split);
    cluster.saw(&all[0], Seen::Local(Local::Reset));
    fail(&cluster, &all[0], 2);
    assert_eq!(out(&cluster, &all[0]), None, "an answer is no local failure, and these are not three");
    (0..2).for_each(|_| cluster.saw(&all[1], Seen::Local(Local::Connect)));
    assert_eq!(out(&cluster, &all[1]), Some(Cause::ConsecutiveLocal));
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_is_avoided_for_its_time_and_nobody_looks_for_trouble_after_it() {
    let (cluster, all) = cluster(2, rules());
    assert_eq!(cluster.troubled(), None);
    cluster.avoid(&all[0], SECOND * 3, &"no connection");
    assert_eq!(all[0].standing(cluster.now()).state, "avoided");
    pass(&cluster, SECOND * 2).await;
    assert!(cluster.troubled().is_some());
    pass(&cluster, SECOND).await;
    assert_eq!((all[0].standing(cluster.now()).state, cluster.troubled()), ("healthy", None));
}

#[tokio::test(start_paused = true)]
async fn bounds_hold_until_a_place_is_given_back() {
    let (cluster, _all) = cluster(1, rules());
    let bounds = PoolBounds { max_requests: 2, max_pending: 1, max_connections: 1, ..PoolBounds::default() };
    let two = [cluster.enter_request(&bounds).unwrap(), cluster.enter_request(&bounds).unwrap()];
    assert_eq!(cluster.enter_request(&bounds).unwrap_err(), Overflow::Requests);
    drop(two);
    let _one = cluster.enter_request(&bounds).unwrap();
    let _waits = cluster.enter_pending(&bounds).unwrap();
    assert_eq!(cluster.enter_pending(&bounds).unwrap_err(), Overflow::Pending);
    let _open = cluster.enter_connection(&bounds, false).unwrap();
    assert_eq!(cluster.enter_connection(&bounds, false).unwrap_err(), Overflow::Connections);
    assert!(cluster.enter_connection(&bounds, true).is_ok(), "a worker may always have one");
    let counted: Vec<_> = cluster.overflown.iter().map(|count| count.load(Relaxed)).collect();
    assert_eq!(counted, [1, 1, 1, 0]);
}

#[tokio::test(start_paused = true)]
async fn retries_are_a_share_of_what_is_under_way_and_a_few_in_any_case() {
    let bounds = PoolBounds::default();
    // Under way, the budget in thousandths of a percent, its least, `maxRetries`, and how many get leave.
    let rows = [
        (0, 20_000, 3, None, 3),
        (10, 20_000, 3, None, 3),
        (50, 20_000, 3, None, 10),
        (50, 20_000, 3, Some(4), 4),
        (50, 100_000, 3, None, 50),
        (50, 0, 1, None, 1),
        (50, 0, 0, None, 0),
    ];
    for (under_way, millipercent, min_concurrency, max_retries, leave) in rows {
        let (cluster, _all) = cluster(1, rules());
        cluster.traffic.store(Arc::new(Traffic {
            retry_budget: RetryBudget { millipercent, min_concurrency },
            pool: PoolBounds { max_retries, ..PoolBounds::default() },
            ..Traffic::default()
        }));
        let _requests: Vec<_> = (0..under_way).map(|_| cluster.enter_request(&bounds).unwrap()).collect();
        let held: Vec<_> = std::iter::repeat_with(|| cluster.enter_retry()).map_while(Result::ok).collect();
        assert_eq!(
            held.len(),
            leave,
            "{under_way} under way, {millipercent}, {min_concurrency}, {max_retries:?}"
        );
        drop(held);
        assert_eq!(cluster.retries.load(Relaxed), 0, "all were given back");
    }
}
