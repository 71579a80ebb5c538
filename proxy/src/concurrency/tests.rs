use tokio::time::advance;

use super::*;

const MS: Duration = Duration::from_millis(1);

fn limit(min: u32, max: u32) -> Arc<AdaptiveLimit> {
    Arc::new(AdaptiveLimit::new(8080, AdaptiveConcurrency { min, max }))
}

fn places(limit: &Arc<AdaptiveLimit>, n: usize) -> Vec<Place> {
    (0..n).map(|_| limit.enter().unwrap()).collect()
}

#[test]
fn a_place_comes_back_whatever_becomes_of_its_request() {
    let limit = limit(1, 2);
    let mut both = places(&limit, 2);
    assert!(matches!(limit.enter(), Err(ProxyError::ConcurrencyLimit)));
    assert_eq!((limit.refused.load(Relaxed), limit.under_way.load(Relaxed)), (1, 2));
    both.pop().unwrap().answered(MS);
    drop(both.pop());
    assert_eq!(limit.under_way.load(Relaxed), 0);
    drop(places(&limit, 2));
}

#[test]
fn what_was_let_in_under_another_limit_says_nothing_of_this_one() {
    let limit = limit(1, 10);
    let before = limit.enter().unwrap();
    limit.epoch.fetch_add(1, Relaxed);
    before.answered(MS);
    assert_eq!((limit.latencies.count(), limit.quiet.count()), (0, 1));
    limit.enter().unwrap().answered(MS);
    assert_eq!(limit.latencies.count(), 1);
}

#[test]
fn an_answer_is_quiet_where_nearly_nothing_was_under_way_from_its_begin_to_its_end() {
    let limit = limit(2, 10);
    let mut places = places(&limit, 3);
    places.pop().unwrap().answered(MS);
    assert_eq!(limit.quiet.count(), 0, "the third was not alone at its begin");
    let others = self::places(&limit, 2);
    places.pop().unwrap().answered(MS);
    assert_eq!(limit.quiet.count(), 0, "the second was not alone at its end");
    drop(others);
    places.pop().unwrap().answered(MS);
    assert_eq!(limit.quiet.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_application_is_found_out_and_held_to_what_it_keeps_up_with() {
    let limits = AdaptiveLimits(vec![limit(3, 1000)]);
    let limit = limits.of(8080).unwrap();
    assert!(limits.of(8081).is_none());
    let keeping = keep(&limits);
    // Ten requests at once of 20 ms each, and always somebody who wants more.
    let work = async {
        let mut under_way = std::collections::VecDeque::new();
        for _ in 0..2_000 {
            while let Ok(place) = limit.enter() {
                under_way.push_back((Instant::now(), place));
            }
            advance(20 * MS).await;
            tokio::task::yield_now().await;
            for (began, place) in under_way.drain(..under_way.len().min(10)) {
                place.answered(began.elapsed());
            }
        }
    };
    tokio::select! {
        () = keeping => unreachable!(),
        () = work => {}
    }
    let (found, baseline) = (limit.limit.load(Relaxed), limit.baseline_micros.load(Relaxed));
    assert!((10..=30).contains(&found), "{found}");
    assert!((17_500..=22_500).contains(&baseline), "{baseline}");
    let mut text = String::new();
    metrics(&mut text, &limits);
    let has = |line: &str| assert!(text.contains(line), "{line} is not in\n{text}");
    has(&format!("\npalisade_concurrency_limit{{port=\"8080\"}} {found}\n"));
    has("\npalisade_concurrency_baseline_seconds{port=\"8080\"} 0.0");
    has(&format!("\npalisade_concurrency_refused_total{{port=\"8080\"}} {}\n", limit.refused.load(Relaxed)));
}
