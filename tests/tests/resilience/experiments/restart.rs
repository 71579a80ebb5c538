//! The control plane restarts while an experiment is on.

use std::time::SystemTime;

use palisade_tests::wild::Act;
use palisade_tests::{Wild, World, client, until};
use tokio::time::timeout;

use super::{MS, from, injected, until_injected};
use crate::PALISADE;
use crate::sidecars::OPEN;

const LEDGER: &str = "http://ledger.payments:8080/transfers";

/// Its end is a time of day, and not a length that a restart would begin anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_experiment_goes_on_after_a_restart_of_the_control_plane_and_ends_when_it_would_have() {
    let mut world = World::start(PALISADE).await;
    world.apply(OPEN).await;
    let app = Wild::http1(|_| Act::Answer(200)).await;
    let _ledger = world.sidecar("payments/ledger").await.serve(8080, app.address()).start().await;
    let web = world.sidecar("payments/web").await.outbound().start().await;
    until("the ledger to be known", || async {
        let answer = client::post(web.http_proxy(), LEDGER, "pay").await;
        if answer.status == 200 { Ok(()) } else { Err(answer) }
    })
    .await;
    let began = SystemTime::now();
    let trial = from(began, "15s", "delay: {fixed: 1h}", "");
    world.apply(&trial.replace("[bank.example]", "[ledger.payments]")).await;
    let call = || tokio::spawn(client::post(web.http_proxy(), LEDGER, "pay"));
    let before = call();
    until_injected(&web, "delay", 1.0).await;

    world.kill_control_plane().await;
    assert_eq!(before.await.unwrap().status, 200, "no order could be heard");
    world.start_control_plane().await;
    // Whoever calls before the stream is there again is not hit.
    until("calls to wait again", || async {
        let waiting = timeout(MS(300), client::post(web.http_proxy(), LEDGER, "pay")).await;
        if waiting.is_err() { Ok(()) } else { Err("one was answered at once") }
    })
    .await;
    assert_eq!(call().await.unwrap().status, 200);
    let took = began.elapsed().unwrap();
    assert!((MS(14_900)..MS(20_000)).contains(&took), "{took:?}");
    let count = injected(&web, "delay").await;
    for _ in 0..10 {
        assert_eq!(client::post(web.http_proxy(), LEDGER, "pay").await.status, 200);
    }
    assert_eq!(injected(&web, "delay").await, count, "it is over");
}
