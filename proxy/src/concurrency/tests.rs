use std::future::pending;
use std::pin::pin;
use std::rc::Rc;

use tokio::time::{advance, sleep, timeout};

use super::*;
use crate::http::body::Tally;

const MS: Duration = Duration::from_millis(1);

fn limit(min: u32, max: u32) -> Arc<AdaptiveLimit> {
    Arc::new(AdaptiveLimit::new(8080, AdaptiveConcurrency { min, max }))
}

fn places(limit: &Arc<AdaptiveLimit>, n: usize) -> Vec<Place> {
    (0..n).map(|_| limit.enter().unwrap()).collect()
}

fn under_way(limit: &AdaptiveLimit) -> u32 {
    limit.under_way.load(Relaxed)
}

/// A request that came whole, or not yet.
fn tally(whole: bool) -> Rc<Tally> {
    let tally = Rc::new(Tally::default());
    tally.request_ended.set(whole);
    tally
}

/// Has the application answer after so long.
async fn answer(mut place: Place, tally: &Rc<Tally>, length: Duration, good: bool) {
    place.until_answered(tally, pin!(sleep(length))).await;
    place.answered(good);
}

#[tokio::test(start_paused = true)]
async fn a_place_comes_back_whatever_becomes_of_its_request() {
    let limit = limit(1, 2);
    let both = places(&limit, 2);
    assert!(matches!(limit.enter(), Err(ProxyError::ConcurrencyLimit)));
    assert_eq!((limit.refused.load(Relaxed), under_way(&limit)), (1, 2));
    for place in both {
        answer(place, &tally(true), MS, true).await;
    }
    assert_eq!(under_way(&limit), 0);
    drop(places(&limit, 2));
    assert_eq!(under_way(&limit), 0, "the application was not given them");
}

#[tokio::test(start_paused = true)]
async fn what_its_caller_leaves_holds_its_place_for_a_moment_and_says_how_long_it_took_at_least() {
    let limits = AdaptiveLimits(vec![limit(1, 2)]);
    let limit = limits.of(8080).unwrap();
    limit.well_micros.store(30_000, Relaxed);
    for (left_after, counted) in [(20 * MS, 0), (40 * MS, 1)] {
        let mut place = limit.enter().unwrap();
        let _left = timeout(left_after, place.until_answered(&tally(true), pin!(pending::<()>()))).await;
        drop(place);
        assert_eq!((under_way(&limit), limit.latencies.count()), (1, counted));
        let _looked = timeout(250 * MS, keep(&limits)).await;
        assert_eq!(under_way(&limit), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_does_not_get_on_with_its_request_holds_a_place_for_a_second() {
    let limit = limit(1, 1);
    let mut place = limit.enter().unwrap();
    let tally = tally(false);
    let waiting = timeout(999 * MS, place.until_answered(&tally, pin!(pending::<()>()))).await;
    assert!(waiting.is_err() && under_way(&limit) == 1);
    let waiting = timeout(1001 * MS, place.until_answered(&tally, pin!(pending::<()>()))).await;
    assert!(waiting.is_err() && under_way(&limit) == 0);
    tally.request_ended.set(true);
    place.answered(true);
    assert_eq!((under_way(&limit), limit.latencies.count()), (0, 0), "given back once, and it says nothing");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_begins_before_its_request_has_ended_gives_the_place_back_at_once() {
    let limit = limit(1, 1);
    answer(limit.enter().unwrap(), &tally(false), MS, true).await;
    assert_eq!((under_way(&limit), limit.latencies.count()), (0, 0));
    answer(limit.enter().unwrap(), &tally(false), MS, false).await;
    assert_eq!((under_way(&limit), limit.abandoned.load(Relaxed)), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_an_event_holds_a_place_for_ten_seconds() {
    let limit = limit(1, 1);
    let mut place = limit.enter().unwrap();
    let waiting = timeout(9999 * MS, place.until_answered(&tally(true), pin!(pending::<()>()))).await;
    assert!(waiting.is_err() && under_way(&limit) == 1);
    drop(place);
    let mut place = limit.enter().err().map(|_| limit.abandoned.swap(0, Relaxed)).map(|left| {
        limit.under_way.fetch_sub(left, Relaxed);
        limit.enter().unwrap()
    });
    let place = place.as_mut().unwrap();
    let waiting = timeout(10_001 * MS, place.until_answered(&tally(true), pin!(pending::<()>()))).await;
    assert!(waiting.is_err() && under_way(&limit) == 0);
}

#[tokio::test(start_paused = true)]
async fn errors_only_say_that_it_took_as_long_as_that() {
    let limit = limit(1, 10);
    limit.well_micros.store(30_000, Relaxed);
    for (length, good, counted) in [(MS, true, 1), (MS, false, 1), (40 * MS, false, 2), (40 * MS, true, 3)] {
        answer(limit.enter().unwrap(), &tally(true), length, good).await;
        assert_eq!(limit.latencies.count(), counted, "{length:?} {good}");
    }
    assert_eq!(limit.quiet.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_was_let_in_under_another_limit_says_nothing_of_this_one() {
    let limit = limit(1, 10);
    let before = limit.enter().unwrap();
    limit.epoch.fetch_add(1, Relaxed);
    answer(before, &tally(true), MS, true).await;
    assert_eq!((limit.latencies.count(), limit.quiet.count()), (0, 1));
    answer(limit.enter().unwrap(), &tally(true), MS, true).await;
    assert_eq!(limit.latencies.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_quiet_where_nearly_nothing_was_under_way_from_its_begin_to_its_end() {
    let limit = limit(2, 10);
    let mut two = places(&limit, 2);
    drop(places(&limit, 1));
    answer(two.pop().unwrap(), &tally(true), MS, true).await;
    assert_eq!(limit.quiet.count(), 0, "a third came and went");
    answer(limit.enter().unwrap(), &tally(true), MS, true).await;
    assert_eq!(limit.quiet.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_application_is_found_out_and_held_to_what_it_keeps_up_with() {
    let limits = AdaptiveLimits(vec![limit(3, 1000)]);
    let limit = limits.of(8080).unwrap();
    assert!(limits.of(8081).is_none());
    let keeping = keep(&limits);
    // Ten requests at once of 100 ms each, and always somebody who wants more.
    let whole = tally(true);
    let work = async {
        let (mut under_way, mut limits) = (std::collections::VecDeque::new(), Vec::new());
        for _ in 0..2_000 {
            while let Ok(mut place) = limit.enter() {
                place.until_answered(&whole, pin!(async {})).await;
                under_way.push_back(place);
            }
            advance(100 * MS).await;
            tokio::task::yield_now().await;
            under_way.drain(..under_way.len().min(10)).for_each(|place| place.answered(true));
            limits.push(limit.limit.load(Relaxed));
        }
        limits
    };
    let mut limits_found = tokio::select! {
        () = keeping => unreachable!(),
        mut found = work => found.split_off(1_000),
    };
    limits_found.sort_unstable();
    assert!((12..=18).contains(&limits_found[500]), "{limits_found:?}");
    let (found, baseline) = (limit.limit.load(Relaxed), limit.baseline_micros.load(Relaxed));
    assert!((87_500..=112_500).contains(&baseline), "{baseline}");
    let mut text = String::new();
    metrics(&mut text, &limits);
    let has = |line: &str| assert!(text.contains(line), "{line} is not in\n{text}");
    has(&format!("\npalisade_concurrency_limit{{port=\"8080\"}} {found}\n"));
    has("\npalisade_concurrency_baseline_seconds{port=\"8080\"} 0.");
    has(&format!("\npalisade_concurrency_refused_total{{port=\"8080\"}} {}\n", limit.refused.load(Relaxed)));
}
