//! When an experiment ends: by itself, by an order, and whenever an order could not be heard.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use palisade_tests::wild::Act;
use palisade_tests::{Sidecar, Wild, World, client, until};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::{MS, experiment, from, injected, until_injected};
use crate::PALISADE;
use crate::kit::{Caller, request};
use crate::sidecars::OPEN;

async fn status(sidecar: &Sidecar) -> u16 {
    client::send(sidecar.http_proxy(), request("POST", "1", "")).await.status.as_u16()
}

#[tokio::test]
async fn one_that_is_over_or_has_not_begun_injects_nothing() {
    let bank = Wild::http1(|_| Act::Answer(200)).await;
    let minutes = |n: u64| MS(n * 60_000);
    let now = SystemTime::now();
    for start in [now - minutes(6), now + minutes(6)] {
        let documents = from(start, "5m", "abort: {httpStatus: 503}", "");
        let caller = Caller::of(&[bank.address()], "HTTP", &documents).await;
        assert_eq!(status(&caller.sidecar).await, 200);
    }
}

/// Nobody does anything: it ends, and whoever is held up goes on.
#[tokio::test]
async fn it_ends_by_itself_and_a_restart_does_not_begin_it_anew() {
    let bank = Wild::http1(|_| Act::Answer(200)).await;
    let start = SystemTime::now();
    let documents = from(start, "8s", "delay: {fixed: 1h}", "");
    let caller = Caller::of(&[bank.address()], "HTTP", &documents).await;
    let held = held(&caller.sidecar);
    until_injected(&caller.sidecar, "delay", 1.0).await;
    assert_eq!(held.await.unwrap(), 200);
    let took = start.elapsed().unwrap();
    assert!((MS(7_900)..MS(12_000)).contains(&took), "{took:?}");
    assert_eq!(status(&caller.sidecar).await, 200);
    assert_eq!(injected(&caller.sidecar, "delay").await, 1.0);
    let Caller { world: _world, sidecar } = caller;
    let again = sidecar.restart().await;
    again.ready().await;
    assert_eq!(status(&again).await, 200);
    assert_eq!(injected(&again, "delay").await, 0.0);
}

/// File mode has no switch but the file. What would have come after the delay does not come either.
#[tokio::test]
async fn who_is_held_up_goes_on_unharmed_when_the_file_is_taken_away() {
    let bank = Wild::http1(|_| Act::Answer(200)).await;
    let documents = experiment("delay: {fixed: 1h}, abort: {httpStatus: 503}", "");
    let caller = Caller::of(&[bank.address()], "HTTP", &documents).await;
    let held = held(&caller.sidecar);
    until_injected(&caller.sidecar, "delay", 1.0).await;
    std::fs::remove_file(caller.world.folder().join("policies/more.yaml")).unwrap();
    assert_eq!(held.await.unwrap(), 200);
}

fn held(sidecar: &Sidecar) -> JoinHandle<u16> {
    let proxy = sidecar.http_proxy();
    tokio::spawn(async move { client::send(proxy, request("POST", "held", "")).await.status.as_u16() })
}

/// A ledger and a caller of a mesh with a control plane, and an experiment under which calls wait for an hour.
struct Mesh {
    world: World,
    web: Sidecar,
    _ledger: Sidecar,
    _app: Wild,
}

const LEDGER: &str = "http://ledger.payments:8080/transfers";

impl Mesh {
    async fn start() -> Self {
        let mesh = Self::without_fault().await;
        mesh.inject().await;
        mesh
    }

    async fn without_fault() -> Self {
        let world = World::start(PALISADE).await;
        world.apply(OPEN).await;
        let app = Wild::http1(|_| Act::Answer(200)).await;
        let ledger = world.sidecar("payments/ledger").await.serve(8080, app.address()).start().await;
        let web = world.sidecar("payments/web").await.outbound().start().await;
        until_ledger_is_known(&web).await;
        Self { world, web, _ledger: ledger, _app: app }
    }

    /// At every caller that is there by now.
    async fn inject(&self) {
        let delay = experiment("delay: {fixed: 1h}", "maxActive: 10000\n");
        self.world.apply(&delay.replace("[bank.example]", "[ledger.payments]")).await;
    }

    /// An operator's command, and how long it took.
    async fn operator(&self, words: &[&str]) -> Duration {
        let began = Instant::now();
        let done = self.world.operator(words).await;
        assert_eq!(done.code, Some(0), "{done:?}");
        began.elapsed()
    }
}

async fn until_ledger_is_known(sidecar: &Sidecar) {
    until("the ledger to be known", || async {
        let answer = client::post(sidecar.http_proxy(), LEDGER, "pay").await;
        if answer.status == 200 { Ok(()) } else { Err(answer) }
    })
    .await;
}

/// So many calls that wait at this sidecar.
async fn wait_at(sidecar: &Sidecar, count: usize) -> Vec<JoinHandle<u16>> {
    let before = injected(sidecar, "delay").await;
    let held = (0..count).map(|_| tokio::spawn(pay(sidecar.http_proxy()))).collect();
    until_injected(sidecar, "delay", before + count as f64).await;
    held
}

async fn pay(proxy: SocketAddr) -> u16 {
    client::post(proxy, LEDGER, "pay").await.status.as_u16()
}

/// Waits for all of them. Gives how long that took.
async fn all_go_on(held: Vec<JoinHandle<u16>>) -> Duration {
    let began = Instant::now();
    for call in held {
        assert_eq!(call.await.unwrap(), 200);
    }
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_stops_all_everywhere_within_a_second_under_traffic() {
    let mesh = Mesh::without_fault().await;
    let second = mesh.world.sidecar_named("payments/web", "web-2").await.outbound().start().await;
    until_ledger_is_known(&second).await;
    mesh.inject().await;
    let callers = [&mesh.web, &second];
    let mut held = Vec::new();
    for caller in callers {
        held.extend(wait_at(caller, 50).await);
    }
    // The second begins with the operator's command. What starting a process and asking the control plane takes in any case is
    // the host's: on a busy one more than the order itself.
    let allowance = mesh.operator(&["fault", "list"]).await;
    let began = Instant::now();
    let ordered = mesh.operator(&["fault", "stop", "--all"]).await;
    all_go_on(held).await;
    let took = began.elapsed();
    println!(
        "{took:?} in all, {ordered:?} of it the command; a command that does nothing takes {allowance:?}"
    );
    assert!(took < MS(1_000) + allowance, "{took:?}, where {allowance:?} are the host's");
    for caller in callers {
        let injected_until_now = injected(caller, "delay").await;
        assert_eq!(injected_until_now, 50.0);
        for _ in 0..50 {
            assert_eq!(pay(caller.http_proxy()).await, 200);
        }
        assert_eq!(injected(caller, "delay").await, injected_until_now);
    }
}

/// An order to stop could not be heard: nothing is injected until it could be again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_is_cut_off_from_its_control_plane_injects_nothing() {
    let mut mesh = Mesh::start().await;
    let held = wait_at(&mesh.web, 10).await;
    mesh.world.kill_control_plane().await;
    let took = all_go_on(held).await;
    assert!(took < MS(2_000), "{took:?}");
    let before = injected(&mesh.web, "delay").await;
    for _ in 0..20 {
        assert_eq!(pay(mesh.web.http_proxy()).await, 200);
    }
    // What an earlier run was told is no order of now.
    let Mesh { mut world, web, _ledger, _app } = mesh;
    let web = web.restart().await;
    web.ready().await;
    for _ in 0..20 {
        assert_eq!(pay(web.http_proxy()).await, 200);
    }
    assert_eq!((before, injected(&web, "delay").await), (10.0, 0.0));

    world.start_control_plane().await;
    let mesh = Mesh { world, web, _ledger, _app };
    until("calls to wait again", || async {
        let waiting = tokio::spawn(pay(mesh.web.http_proxy()));
        sleep(MS(200)).await;
        waiting.abort();
        let now = injected(&mesh.web, "delay").await;
        if now > 0.0 { Ok(()) } else { Err(now) }
    })
    .await;
}
