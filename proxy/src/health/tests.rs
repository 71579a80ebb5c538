use std::cell::RefCell;
use std::rc::Rc;

use tokio::time::advance;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn check(success_threshold: u32, failure_threshold: u32, initial_delay: Duration) -> HealthCheck {
    HealthCheck {
        probe: "http:/healthz".parse().unwrap(),
        headers: Vec::new(),
        initial_delay,
        interval: HealthCheck::INTERVAL,
        timeout: HealthCheck::TIMEOUT,
        success_threshold,
        failure_threshold,
    }
}

fn failure(cause: Cause) -> Failure {
    Failure { cause, words: cause.name().into() }
}

/// Runs the task against an application that does what `script` says at each second; gives how requests fare at each.
async fn run(
    check: HealthCheck,
    seconds: u64,
    script: impl Fn(u64) -> Option<Result<(), Cause>>,
) -> (Health, Vec<Option<Cause>>, Vec<u64>) {
    let health = Health::new(Some(&check));
    let (began, asked) = (Instant::now(), Rc::new(RefCell::new(Vec::new())));
    let mut fares = Vec::new();
    {
        let ask = async || {
            let now = began.elapsed().as_secs();
            asked.borrow_mut().push(now);
            match script(now) {
                Some(result) => result.map_err(failure),
                // As `keep` has it.
                None => {
                    sleep(check.timeout).await;
                    Err(failure(Cause::Timeout))
                }
            }
        };
        let looking = async {
            for _ in 0..seconds {
                sleep(SECOND - Duration::from_millis(1)).await;
                fares.push(health.refusal());
                sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::select! {
            () = watch(&health, &check, SECOND, ask) => unreachable!(),
            () = looking => {}
        }
    }
    let asked = asked.borrow().clone();
    (health, fares, asked)
}

#[tokio::test(start_paused = true)]
async fn without_a_check_requests_pass_and_nobody_is_told_anything() {
    let health = Health::new(None);
    assert_eq!((health.refusal(), health.standing()), (None, Standing::Unchecked));
    let mut text = String::new();
    metrics(&mut text, &health);
    assert_eq!(text, "");
}

#[tokio::test(start_paused = true)]
async fn an_application_is_unhealthy_until_its_first_good_check_and_asked_every_second_until_then() {
    let check = check(1, 3, 2 * SECOND);
    let starts = |now| if now < 5 { Some(Err(Cause::Connect)) } else { Some(Ok(())) };
    let (health, fares, asked) = run(check, 30, starts).await;
    assert_eq!(fares[..2], [Some(Cause::NotYet); 2], "before the first check");
    assert_eq!(fares[2..5], [Some(Cause::Connect); 3]);
    assert!(fares[5..].iter().all(Option::is_none), "{fares:?}");
    assert_eq!(asked, [2, 3, 4, 5, 15, 25]);
    assert_eq!(health.standing(), Standing::Healthy);
}

#[tokio::test(start_paused = true)]
async fn it_is_refused_after_so_many_failures_in_a_row_and_comes_back_after_so_many_successes() {
    // Asked at 0 and 1, then every ten seconds.
    let ails = |now| Some(if (30..80).contains(&now) { Err(Cause::Status) } else { Ok(()) });
    let (health, fares, _) = run(check(2, 3, Duration::ZERO), 120, ails).await;
    let changes: Vec<_> = fares
        .windows(2)
        .enumerate()
        .filter(|(_, two)| two[0] != two[1])
        .map(|(at, two)| (at + 1, two[1]))
        .collect();
    assert_eq!(changes, [(1, None), (51, Some(Cause::Status)), (91, None)]);
    let mut text = String::new();
    metrics(&mut text, &health);
    for line in [
        "palisade_application_healthy 1",
        "palisade_health_checks_total{outcome=\"status\"} 5",
        "palisade_health_changes_total{to=\"healthy\"} 2",
        "palisade_health_changes_total{to=\"unhealthy\"} 1",
    ] {
        assert!(text.lines().any(|written| written == line), "{line}\n{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_hangs_is_given_up_in_time_and_asked_again_at_the_interval() {
    let hangs = |now| if now < 10 { Some(Ok(())) } else { None };
    let (health, fares, asked) = run(check(1, 2, Duration::ZERO), 45, hangs).await;
    assert_eq!(asked, [0, 10, 20, 30, 40]);
    assert_eq!((fares[20], fares[21]), (None, Some(Cause::Timeout)), "two in a row, one second each");
    assert!(matches!(health.standing(), Standing::Unhealthy(failure) if failure.cause == Cause::Timeout));
}

#[tokio::test(start_paused = true)]
async fn who_watches_hears_of_changes_of_health_and_cause_and_of_nothing_else() {
    let check = check(1, 1, Duration::ZERO);
    let health = Health::new(Some(&check));
    let mut changes = health.changes();
    let script =
        [Err(Cause::Status), Err(Cause::Status), Err(Cause::Timeout), Ok(()), Ok(()), Err(Cause::Connect)];
    let mut script = script.into_iter();
    let ask = async || script.next().unwrap_or(Ok(())).map_err(failure);
    let mut heard = Vec::new();
    let looking = async {
        for _ in 0..4 {
            changes.changed().await.unwrap();
            heard.push(changes.borrow_and_update().clone());
        }
        advance(SECOND).await;
    };
    tokio::select! {
        () = watch(&health, &check, SECOND, ask) => unreachable!(),
        () = looking => {}
    }
    let unhealthy = |cause| Standing::Unhealthy(failure(cause));
    assert_eq!(
        heard,
        [unhealthy(Cause::Status), unhealthy(Cause::Timeout), Standing::Healthy, unhealthy(Cause::Connect)]
    );
}
