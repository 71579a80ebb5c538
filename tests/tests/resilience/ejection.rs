//! What endpoints are left out for, and how new ones come to their share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use palisade_tests::wild::Act;
use palisade_tests::{Wild, client, until};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::breaker::{rule, upstream};
use crate::kit::{Caller, bank, request};

/// A kind of failure that an endpoint is left out for.
struct Row {
    detection: &'static str,
    does: Act,
    cause: &'static str,
    /// Endpoints, one of which fails.
    of: usize,
    /// Failures that are enough; `None`: as many as come within an interval.
    after: Option<usize>,
}

const ROWS: [Row; 3] = [
    Row {
        detection: "consecutiveGatewayErrors: 3",
        does: Act::Answer(502),
        cause: "consecutive_gateway_failure",
        of: 2,
        after: Some(3),
    },
    Row {
        detection: "splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 4",
        does: Act::Reset,
        cause: "consecutive_local_origin_failure",
        of: 2,
        after: Some(4),
    },
    Row { detection: "interval: 1s", does: Act::Answer(500), cause: "success_rate", of: 5, after: None },
];

const CAUSES: [&str; 4] =
    ["consecutive_5xx", "consecutive_gateway_failure", "consecutive_local_origin_failure", "success_rate"];

/// Payments from eight callers at once, until `enough` or for a minute.
async fn load(caller: &Caller, enough: &Arc<AtomicBool>) {
    let proxy = caller.sidecar.http_proxy();
    let mut callers = JoinSet::new();
    for _ in 0..8 {
        let enough = enough.clone();
        callers.spawn(async move {
            let began = Instant::now();
            while !enough.load(Relaxed) && began.elapsed() < Duration::from_secs(60) {
                let _status = client::send(proxy, request("POST", "one", "pay")).await;
            }
        });
    }
    callers.join_all().await;
}

#[tokio::test]
async fn an_endpoint_is_left_out_for_each_kind_of_failure_and_its_cause_is_told_everywhere() {
    for Row { detection, does, cause, of, after } in ROWS {
        let bad = Wild::http1(move |_| does).await;
        let mut good = Vec::new();
        for _ in 1..of {
            good.push(Wild::http1(|_| Act::Answer(200)).await);
        }
        let policy = format!(
            "{{loadBalancer: {{simple: ROUND_ROBIN}}, \
             outlierDetection: {{consecutive5xxErrors: 0, baseEjectionTime: 60s, {detection}}}}}"
        );
        let addresses: Vec<_> = std::iter::once(&bad).chain(&good).map(Wild::address).collect();
        let caller = Caller::with(&addresses, "HTTP", &rule(&policy), 1).await;
        let out = async || {
            let page = upstream(&caller).await;
            let all = page["endpoints"].as_array().cloned().unwrap_or_default();
            all.into_iter().find(|endpoint| endpoint["state"] == "ejected")
        };
        match after {
            Some(count) => {
                for n in 0..3 * count {
                    assert!(out().await.is_none() || bad.delivered().len() == count, "{cause}: too early");
                    caller.call("POST", &n.to_string(), "pay").await;
                }
                assert_eq!(bad.delivered().len(), count, "{cause}");
            }
            None => {
                let enough = Arc::<AtomicBool>::default();
                let watching = async {
                    until("an endpoint to be left out", || async { out().await.ok_or("none") }).await;
                    enough.store(true, Relaxed);
                };
                tokio::join!(load(&caller, &enough), watching);
            }
        }
        let out = out().await.unwrap_or_else(|| panic!("{cause}: nobody is left out"));
        let address = bad.address().to_string();
        assert_eq!((&out["address"], &out["cause"]), (&json!(address), &json!(cause)));
        let log = caller.sidecar.process.log();
        let told: Vec<&str> = log.lines().filter(|line| line.contains("an endpoint is left out")).collect();
        assert!(matches!(told[..], [line] if line.contains(cause) && line.contains(&address)), "{log}");
        for each in CAUSES {
            let having = format!("cause=\"{each}\"");
            let count = caller.sidecar.metric("palisade_upstream_ejections_total", &[&having]).await;
            assert_eq!(count, f64::from(u8::from(each == cause)), "{each} of {cause}");
        }
        let before = bad.delivered().len();
        for n in 0..10 {
            assert_eq!(caller.call("POST", &n.to_string(), "pay").await.status, 200, "{cause}");
        }
        assert_eq!(bad.delivered().len(), before, "{cause}");
    }
}

/// Of the calls of half a second, the share that comes to `new`.
async fn share(caller: &Caller, new: &Wild) -> f64 {
    let (before, began) = (new.delivered().len(), Instant::now());
    let mut all = 0u32;
    while began.elapsed() < Duration::from_millis(500) || all < 40 {
        assert_eq!(caller.call("GET", "one", "").await.status, 200);
        all += 1;
    }
    let got = u32::try_from(new.delivered().len() - before).unwrap();
    f64::from(got) / f64::from(all)
}

#[tokio::test]
async fn a_new_endpoint_gets_its_share_little_by_little() {
    let warmup = Duration::from_secs(10);
    let old = Wild::http1(|_| Act::Answer(200)).await;
    let new = Wild::http1(|_| Act::Answer(200)).await;
    let policy = "{loadBalancer: {simple: ROUND_ROBIN, warmup: {duration: 10s}}}";
    let caller = Caller::with(&[old.address()], "HTTP", &rule(policy), 1).await;
    assert_eq!(caller.call("GET", "one", "").await.status, 200);
    // It is an old one when its own time is over.
    tokio::time::sleep(warmup).await;
    caller.world.policy("bank.yaml", &bank(&[old.address(), new.address()], "HTTP"));
    until("the new endpoint to be known", || async {
        caller.call("GET", "one", "").await;
        let page = upstream(&caller).await;
        if page["endpoints"].as_array().unwrap().len() == 2 { Ok(()) } else { Err(page) }
    })
    .await;
    let known = Instant::now();
    let first = share(&caller, &new).await;
    assert!(known.elapsed() < Duration::from_secs(3), "too busy a machine to say anything");
    assert!(first < 0.3, "a tenth of the other's share at first: {first}");
    tokio::time::sleep_until(known + warmup / 2).await;
    let half = share(&caller, &new).await;
    assert!(half > first + 0.08 && half < 0.48, "{first}, then {half}");
    tokio::time::sleep_until(known + warmup).await;
    let whole = share(&caller, &new).await;
    assert!(whole > half && (0.45..0.55).contains(&whole), "{first}, {half}, then {whole}");
}
