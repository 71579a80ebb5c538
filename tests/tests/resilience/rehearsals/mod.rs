//! `palisade rehearse`: what is broken is mended again, whatever happens, and the report says what held.

mod example;
mod kit;
mod live;
mod watch;

use std::fs;
use std::time::Duration;

use palisade_tests::until;
use tokio::time::Instant;

use kit::Rehearsal;

#[tokio::test]
async fn a_rehearsal_that_holds_says_so_and_leaves_nothing_broken() {
    let rehearsal = Rehearsal::of("hold: {successRate: 0}", "successRateBelow: 0").await;
    let done = rehearsal.play(&["--html", "report.html"]).await;
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(
        done.stdout.contains("held    <b>dead</b>: ") && done.stdout.contains("HELD bank/r"),
        "{}",
        done.stdout
    );
    assert!(done.stdout.contains("failed: 503: "), "it was broken: {}", done.stdout);
    assert!(!rehearsal.is_broken(), "and mended");

    let page = fs::read_to_string(rehearsal.path("report.html")).unwrap();
    assert!(page.contains("&lt;b&gt;dead&lt;/b&gt;") && !page.contains("<b>"), "names are text: {page}");
    let charts = page.matches("<svg ").count();
    assert!(charts >= 2 && charts == page.matches("</svg>").count(), "{charts} charts: {page}");
    for title in ["Succeeded, %", "Latency from when a request was due"] {
        let chart = page.split("<svg ").find(|chart| chart.contains(&format!("aria-label=\"{title}\"")));
        let chart = chart.unwrap_or_else(|| panic!("no chart of {title}: {page}"));
        assert!(chart.contains("<path class=\"a\" d=\"M"), "nothing is drawn: {chart}");
    }
    for outside in ["<script", "http://", "https://", "url(", "@import", " src=", "<link"] {
        assert!(!page.contains(outside), "the page fetches something, or runs something: {outside}");
    }
}

#[tokio::test]
async fn a_step_that_does_not_hold_fails_the_rehearsal() {
    let rehearsal = Rehearsal::of("hold: {successRate: 50}", "successRateBelow: 0").await;
    let done = rehearsal.play(&["-o", "json"]).await;
    assert_eq!(done.code, Some(1), "{done:?}");
    let report: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(report["verdict"], "broken");
    let step = &report["steps"][0];
    let breach = step["breaches"][0].as_str().unwrap();
    assert!(breach.ends_with("% succeeded, at least 50 % was to"), "{step}");
    assert!(step["window"]["failures"]["503"].as_u64().unwrap() > 0, "{step}");
    assert!(step["recovered_after_seconds"].as_f64().is_some(), "{step}");
    assert!(!rehearsal.is_broken());
}

#[tokio::test]
async fn a_guard_that_breaks_mends_everything_at_once_and_says_so() {
    let rehearsal = Rehearsal::long("hold: {successRate: 0}", "successRateBelow: 50").await;
    let begin = Instant::now();
    let done = rehearsal.play(&[]).await;
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(begin.elapsed() < Duration::from_secs(60), "the step has ten minutes");
    let said = "ABORTED bank/r: the guard broke: ";
    assert!(done.stdout.contains(said) && done.stdout.contains("never: not played"), "{}", done.stdout);
    assert!(!rehearsal.is_broken());
}

#[tokio::test]
async fn a_rehearsal_that_is_told_to_stop_mends_everything_first() {
    let rehearsal = Rehearsal::long("hold: {successRate: 0}", "successRateBelow: 0").await;
    let mut process = rehearsal.start();
    until("something to be broken", || async {
        if rehearsal.is_broken() { Ok(()) } else { Err(process.log()) }
    })
    .await;
    process.terminate().await;
    assert_eq!(process.exit().await.code(), Some(1));
    assert!(process.log().contains("INTERRUPTED bank/r"), "{}", process.log());
    assert!(!rehearsal.is_broken());
}

#[tokio::test]
async fn nothing_is_broken_where_the_steady_state_does_not_hold() {
    let rehearsal = Rehearsal::of("hold: {successRate: 0}", "successRateBelow: 0").await;
    // As if somebody else had broken it.
    rehearsal.break_it();
    let done = rehearsal.play(&[]).await;
    assert_eq!(done.code, Some(3), "{done:?}");
    let said = "NOT BEGUN bank/r: the steady state does not hold: 0 % succeeded, at least 99 % was to";
    assert!(done.stdout.contains(said), "{}", done.stdout);
    assert!(rehearsal.is_broken() && !rehearsal.path("begun").exists(), "no command was run");
}

#[tokio::test]
async fn a_command_that_fails_ends_the_rehearsal_and_is_undone() {
    let rehearsal = Rehearsal::of("hold: {successRate: 0}", "successRateBelow: 0").await;
    let done = rehearsal.play(&["--set", "last=exit 7"]).await;
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(
        done.stdout.contains("FAILED bank/r: ") && done.stdout.contains("exit status: 7"),
        "{}",
        done.stdout
    );
    assert!(rehearsal.path("begun").exists() && !rehearsal.is_broken(), "half of it was done, and undone");
}

#[tokio::test]
async fn what_is_not_mended_is_said_above_all() {
    let rehearsal = Rehearsal::of("hold: {successRate: 0}", "successRateBelow: 0").await;
    let done = rehearsal.play(&["--set", "first=exit 7"]).await;
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(
        done.stdout.contains("FAILED bank/r: what was broken is not mended; do it by hand"),
        "{}",
        done.stdout
    );
}

#[tokio::test]
async fn addresses_of_other_hosts_and_values_that_do_nothing_are_refused() {
    let rehearsal = Rehearsal::of("hold: {successRate: 0}", "successRateBelow: 0").await;
    let done = rehearsal.play(&["--set", "service=192.0.2.1:80"]).await;
    assert_eq!(done.code, Some(2), "{done:?}");
    let said = "spec.load.requests[0].url is 192.0.2.1:80, which is not an address of this host";
    assert!(done.stderr.contains(said), "{}", done.stderr);
    let done = rehearsal.play(&["--set", "servise=127.0.0.1:80"]).await;
    assert_eq!(done.code, Some(2), "{done:?}");
    assert!(done.stderr.contains("--set servise does nothing"), "{}", done.stderr);
}
