//! More than an application keeps up with: what comes on top is turned away before it is asked.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use palisade_tests::client::{self, Answer};
use palisade_tests::documents::service_entry;
use palisade_tests::world::expecting;
use palisade_tests::{Narrow, Sidecar, Upstream, World, until};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::PALISADE;
use crate::sidecars::{OPEN, ledger_at};

const LEDGER: &str = "http://ledger.payments:8080/transfers";

/// A ledger alone in a mesh of files, and a peer that calls it without a sidecar.
async fn alone(app: SocketAddr, protocol: &str, bounds: &str) -> (World, Sidecar) {
    let world = World::of_files(PALISADE);
    world.policy("open.yaml", OPEN);
    let builder = world.file_sidecar("payments/ledger").serve_as(8080, protocol, app);
    let sidecar = builder.arg("--adaptive-concurrency", bounds).start().await;
    (world, sidecar)
}

async fn call(world: &World, sidecar: &Sidecar, path: &str) -> Answer {
    let (svid, bundle) = (world.pki.svid("payments/web"), &world.pki.bundle);
    let (address, expected) = (sidecar.inbound(8080), expecting("payments/ledger"));
    let stream = client::connect_tls(address, Some(&svid), bundle, expected, &[b"http/1.1"]).await.unwrap();
    let mut request = client::request("POST", path, "pay");
    request.headers_mut().insert("host", "ledger.payments:8080".parse().unwrap());
    client::send_on(stream, request).await.unwrap()
}

/// Instances of the ledger in front of these applications, within these bounds, and a caller.
struct Mesh {
    _world: World,
    ledgers: Vec<Sidecar>,
    caller: Sidecar,
}

impl Mesh {
    async fn start(apps: &[(&Narrow, &str)], documents: &str) -> Self {
        let world = World::of_files(PALISADE);
        world.policy("open.yaml", OPEN);
        let mut ledgers = Vec::new();
        for (app, bounds) in apps {
            let builder = world.file_sidecar("payments/ledger").serve(8080, app.address());
            ledgers.push(builder.arg("--adaptive-concurrency", bounds).start().await);
        }
        let entry = match &ledgers[..] {
            [one, two] => ledger_at(one.inbound(8080), two.inbound(8080)),
            [one, ..] => service_entry("ledger", one.inbound(8080), "HTTP"),
            [] => panic!("no ledger"),
        };
        world.policy("ledger.yaml", &entry);
        if !documents.is_empty() {
            world.policy("more.yaml", documents);
        }
        let caller = world.file_sidecar("payments/web").outbound().start().await;
        Self { _world: world, ledgers, caller }
    }

    async fn refused(&self) -> f64 {
        self.ledgers[0].metric("palisade_concurrency_refused_total", &[]).await
    }
}

#[tokio::test]
async fn what_comes_on_top_of_the_limit_never_reaches_the_application() {
    let app = Upstream::start("ledger").await;
    let (world, sidecar) = alone(app.address(), "http", "1-1").await;
    let (slow, refused) = tokio::join!(call(&world, &sidecar, "/slow/1000"), async {
        until("the first request at the application", || async {
            if app.received().is_empty() { Err("nothing") } else { Ok(()) }
        })
        .await;
        call(&world, &sidecar, "/transfers").await
    });
    assert_eq!((slow.status, slow.text().as_str()), (200.try_into().unwrap(), "slow"));
    assert_eq!(refused.status, 503);
    assert_eq!(refused.header("x-palisade-refused"), Some("before;busy"));
    assert_eq!(refused.header("retry-after"), Some("1"));
    let fields = [("reason", json!("concurrency_limit")), ("response_flags", json!("UO"))];
    sidecar.records_with(1, &fields).await;
    assert_eq!(sidecar.metric("palisade_concurrency_refused_total", &["port=\"8080\""]).await, 1.0);
    assert_eq!(call(&world, &sidecar, "/after").await.status, 200, "the place is free again");
    let paths: Vec<_> = app.received().into_iter().map(|received| received.target).collect();
    assert_eq!(paths, ["/slow/1000", "/after"]);
}

#[tokio::test]
async fn who_is_not_allowed_learns_nothing_of_the_load_and_takes_no_place() {
    let app = Upstream::start("ledger").await;
    let (world, sidecar) = alone(app.address(), "http", "1-1").await;
    world.policy(
        "deny.yaml",
        "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: secret, namespace: payments}
spec: {action: DENY, rules: [{to: [{operation: {paths: [/secret]}}]}]}
",
    );
    until("the policy", || async {
        match call(&world, &sidecar, "/secret").await.status.as_u16() {
            403 => Ok(()),
            other => Err(other),
        }
    })
    .await;
    app.clear();
    let (slow, denied) = tokio::join!(call(&world, &sidecar, "/slow/1000"), async {
        until("the first request at the application", || async {
            if app.received().is_empty() { Err("nothing") } else { Ok(()) }
        })
        .await;
        call(&world, &sidecar, "/secret").await
    });
    assert_eq!((slow.status.as_u16(), denied.status.as_u16()), (200, 403));
    assert_eq!(sidecar.metric("palisade_concurrency_refused_total", &[]).await, 0.0);
}

#[tokio::test]
async fn an_answer_that_is_still_being_read_holds_no_place() {
    let app = Upstream::start("ledger").await;
    let (world, sidecar) = alone(app.address(), "http", "1-1").await;
    // Three seconds of it, from a head that comes at once.
    let stream = call(&world, &sidecar, "/drip/150");
    let other = async {
        until("the head of the stream", || async {
            let under_way = sidecar.metric("palisade_concurrency_under_way", &[]).await;
            if app.received().len() == 1 && under_way == 0.0 { Ok(()) } else { Err(under_way) }
        })
        .await;
        let began = Instant::now();
        (call(&world, &sidecar, "/transfers").await.status, began.elapsed())
    };
    let (stream, (status, took)) = tokio::join!(stream, other);
    assert_eq!((stream.status.as_u16(), stream.body.len()), (200, 150));
    assert_eq!(status, 200);
    assert!(took < Duration::from_secs(2), "{took:?}: not beside the stream");
}

#[tokio::test]
async fn how_slowly_callers_send_says_nothing_of_the_application() {
    let app = Upstream::start("ledger").await;
    let (_world, sidecar) = alone(app.address(), "http2", "3-1000").await;
    let (svid, bundle) = (_world.pki.svid("payments/web"), &_world.pki.bundle);
    let mut calls = JoinSet::new();
    for _ in 0..12 {
        let expected = expecting("payments/ledger");
        let stream = client::connect_tls(sidecar.inbound(8080), Some(&svid), bundle, expected, &[b"h2"])
            .await
            .unwrap();
        let (pieces, body) = client::paced();
        let request = http::Request::builder().method("POST").uri("http://ledger.payments:8080/transfers");
        calls.spawn(client::send_h2(stream, request.body(body).unwrap()));
        // One after the other: nearly nothing is under way.
        for _ in 0..3 {
            pieces.send(Bytes::from_static(b"pay")).await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        drop(pieces);
        assert_eq!(calls.join_next().await.unwrap().unwrap().unwrap().status, 200);
    }
    let baseline = until("what is known of the application", || async {
        match sidecar.metric("palisade_concurrency_baseline_seconds", &[]).await {
            0.0 => Err("nothing"),
            known => Ok(known),
        }
    })
    .await;
    assert!(baseline < 0.1, "{baseline} s are its callers'");
    assert!(app.received().iter().all(|received| received.body == b"paypaypay" && received.complete));
}

#[tokio::test]
async fn a_request_that_never_comes_whole_takes_no_place_from_others() {
    let app = Upstream::start("ledger").await;
    let (world, sidecar) = alone(app.address(), "http2", "1-1").await;
    let (svid, bundle) = (world.pki.svid("payments/web"), &world.pki.bundle);
    let expected = expecting("payments/ledger");
    let stream =
        client::connect_tls(sidecar.inbound(8080), Some(&svid), bundle, expected, &[b"h2"]).await.unwrap();
    let (pieces, body) = client::paced();
    let request = http::Request::builder().method("POST").uri("http://ledger.payments:8080/transfers");
    let slow = tokio::spawn(client::send_h2(stream, request.body(body).unwrap()));
    pieces.send(Bytes::from_static(b"pay")).await.unwrap();
    until("the first request at the application", || async {
        if app.received().is_empty() { Err("nothing") } else { Ok(()) }
    })
    .await;
    assert_eq!(call(&world, &sidecar, "/transfers").await.status, 503, "for a moment");
    until("a place for others", || async {
        match call(&world, &sidecar, "/transfers").await.status.as_u16() {
            200 => Ok(()),
            other => Err(other),
        }
    })
    .await;
    drop(pieces);
    assert_eq!(slow.await.unwrap().unwrap().status, 200, "it is not cut");
}

#[tokio::test]
async fn callers_that_give_up_before_their_answer_show_how_slow_the_application_is() {
    // It does 80 a second.
    let app = Narrow::start(4, Duration::from_millis(50)).await;
    let mesh = Mesh::start(&[(&app, "2-1000")], "").await;
    let (ledger, caller) = (&mesh.ledgers[0], &mesh.caller);
    // What the application takes where nothing waits.
    for _ in 0..12 {
        assert_eq!(client::post(caller.http_proxy(), LEDGER, "pay").await.status, 200);
    }
    until("the baseline", || async {
        match ledger.metric("palisade_concurrency_baseline_seconds", &[]).await {
            0.0 => Err("unknown"),
            _ => Ok(()),
        }
    })
    .await;
    let end = Instant::now() + Duration::from_secs(5);
    let mut tasks = JoinSet::new();
    for _ in 0..40 {
        let proxy = caller.http_proxy();
        tasks.spawn(async move {
            while Instant::now() < end {
                let mut request = client::request("POST", LEDGER, "pay");
                let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap() + Duration::from_millis(150);
                request
                    .headers_mut()
                    .insert("x-palisade-deadline", now.as_millis().to_string().parse().unwrap());
                // Its time may be over in the middle of an answer.
                let _cut = client::try_send(proxy, request).await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
    }
    tasks.join_all().await;
    let mut seen = app.take_seen().split_off(12);
    let usual = seen.split_off(seen.len() / 2);
    let late = usual.iter().filter(|at_once| **at_once > 20).count();
    assert!(late * 4 < usual.len(), "{usual:?}");
    assert!(ledger.metric("palisade_concurrency_limit", &[]).await < 15.0);
}

/// Callers that want more at once than the application can do, for a while. Gives how many got 200, and 503.
async fn crowd(caller: &Sidecar, callers: usize, length: Duration) -> [usize; 2] {
    let end = Instant::now() + length;
    let mut tasks = JoinSet::new();
    for _ in 0..callers {
        let proxy = caller.http_proxy();
        tasks.spawn(async move {
            let mut counts = [0; 2];
            while Instant::now() < end {
                match client::post(proxy, LEDGER, "pay").await.status.as_u16() {
                    200 => counts[0] += 1,
                    503 => {
                        counts[1] += 1;
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                    other => panic!("{other}"),
                }
            }
            counts
        });
    }
    let all = tasks.join_all().await;
    all.into_iter().fold([0; 2], |sum, counts| [sum[0] + counts[0], sum[1] + counts[1]])
}

#[tokio::test]
async fn an_application_with_too_many_callers_is_given_what_it_keeps_up_with() {
    // It does 80 a second; forty at once would wait half a second each.
    let app = Narrow::start(4, Duration::from_millis(50)).await;
    let mesh = Mesh::start(&[(&app, "2-1000")], "").await;
    let (ledger, caller) = (&mesh.ledgers[0], &mesh.caller);
    // Until the limit is found.
    let begun = crowd(caller, 40, Duration::from_secs(3)).await;
    let before = app.take_seen().len();
    let [done, turned_away] = crowd(caller, 40, Duration::from_secs(4)).await;
    let mut seen = app.take_seen();
    assert_eq!((begun[0], done), (before, seen.len()), "only what was answered was delivered, and once");
    assert!(turned_away > 0);
    assert!(done > 150, "{done} done, of 320 that could be");
    seen.sort_unstable();
    let usual = seen[seen.len() / 2];
    assert!((2..=14).contains(&usual), "{usual} at once, of 40 that wanted: it began with 20");
    let baseline = ledger.metric("palisade_concurrency_baseline_seconds", &[]).await;
    assert!((0.04..0.12).contains(&baseline), "{baseline}");
    assert!(ledger.process.log().contains("requests are turned away"));
}

#[tokio::test]
async fn what_one_instance_turns_away_another_one_does() {
    let narrow = Narrow::start(1, Duration::from_millis(200)).await;
    let wide = Narrow::start(100, Duration::from_millis(1)).await;
    let even = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: ledger, namespace: payments}
spec:
  host: ledger
  trafficPolicy:
    loadBalancer: {simple: ROUND_ROBIN}
    retryBudget: {percent: 100, minRetryConcurrency: 20}
";
    let mesh = Mesh::start(&[(&narrow, "1-3"), (&wide, "3-1000")], even).await;
    let mut calls = JoinSet::new();
    for _ in 0..40 {
        let proxy = mesh.caller.http_proxy();
        calls.spawn(async move { client::post(proxy, LEDGER, "pay").await.status });
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(calls.join_all().await.into_iter().all(|status| status == 200));
    assert_eq!(narrow.take_seen().len() + wide.take_seen().len(), 40, "each is delivered once");
    assert!(mesh.refused().await > 0.0);
}

#[tokio::test]
async fn an_instance_that_turns_requests_away_does_not_draw_them_by_how_fast_it_does_that() {
    let narrow = Narrow::start(1, Duration::from_millis(300)).await;
    let wide = Narrow::start(100, Duration::from_millis(20)).await;
    let mesh = Mesh::start(&[(&narrow, "1-1"), (&wide, "3-1000")], "").await;
    let [done, turned_away] = crowd(&mesh.caller, 10, Duration::from_secs(3)).await;
    let delivered = narrow.take_seen().len() + wide.take_seen().len();
    assert_eq!(done, delivered, "each is delivered once");
    assert!(turned_away * 50 < done, "{done} done, {turned_away} turned away");
    assert!(mesh.refused().await > 0.0);
}
