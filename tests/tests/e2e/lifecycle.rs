//! Start, readiness and the end of a sidecar.

use http::StatusCode;
use palisade_tests::wait::until;
use palisade_tests::{DEADLINE, Upstream, World, client};
use tokio::net::{TcpListener, TcpStream};

use crate::PALISADE;
use crate::kit::{ALLOW_MESH, HTTP1, Mesh, get, url};

#[tokio::test]
async fn is_ready_only_with_certificate_policy_and_listeners_and_lives_before() {
    let world = World::of_files(PALISADE);
    let app = Upstream::start("ledger").await;
    world.policy("allow.yaml", ALLOW_MESH);
    let builder = world.file_sidecar("payments/ledger").serve(8080, app.address());
    let sidecar = builder.start().await;
    assert_eq!(sidecar.admin("/live").await.status, StatusCode::OK);
    assert_eq!(sidecar.admin("/ready").await.status, StatusCode::OK);
    assert_eq!(sidecar.admin("/nothing").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn refuses_to_start_with_files_that_are_missing_or_do_not_fit() {
    let world = World::of_files(PALISADE);
    world.policy("allow.yaml", ALLOW_MESH);
    world.write_svid("payments/a", std::time::Duration::from_secs(3600));
    world.write_svid("payments/b", std::time::Duration::from_secs(3600));
    let path = |name: &str| world.folder().join(name).display().to_string();
    let policies = path("policies");
    let rubbish = world.write("rubbish.pem", "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n");
    let rows = [
        ("no certificate", path("none.crt"), path("payments-a.key"), path("roots.pem"), "none.crt"),
        ("rubbish", rubbish, path("payments-a.key"), path("roots.pem"), "rubbish.pem"),
        ("another's key", path("payments-a.crt"), path("payments-b.key"), path("roots.pem"), "key"),
        ("no roots", path("payments-a.crt"), path("payments-a.key"), path("none.pem"), "none.pem"),
        (
            "a leaf as root",
            path("payments-a.crt"),
            path("payments-a.key"),
            path("payments-a.crt"),
            "payments-a.crt",
        ),
    ];
    for (what, svid, key, roots, named) in rows {
        let args = ["proxy", "--policies", &policies, "--svid", &svid, "--svid-key", &key, "--roots", &roots];
        let args = [&args[..], &["--outbound-proxy", "127.0.0.1:0", "--admin", "127.0.0.1:0"]].concat();
        let done = world.palisade(&args).await;
        assert!(matches!(done.code, Some(1 | 2)), "{what}: {done:?}");
        assert!(done.stderr.contains(named), "{what}: {}", done.stderr);
        assert!(!done.stderr.contains("panicked"), "{what}: {}", done.stderr);
    }
}

#[tokio::test]
async fn a_port_in_use_is_named_with_the_option_to_change() {
    let world = World::of_files(PALISADE);
    world.policy("allow.yaml", ALLOW_MESH);
    world.write_svid("payments/a", std::time::Duration::from_secs(3600));
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let path = |name: &str| world.folder().join(name).display().to_string();
    let (policies, svid, key, roots) =
        (path("policies"), path("payments-a.crt"), path("payments-a.key"), path("roots.pem"));
    let base = ["proxy", "--policies", &policies, "--svid", &svid, "--svid-key", &key, "--roots", &roots];
    let serve = format!("8080,listen={address},app=127.0.0.1:9");
    for option in [["--outbound-proxy", &address], ["--serve", &serve]] {
        let done = world.palisade(&[&base[..], &option, &["--admin", "127.0.0.1:0"]].concat()).await;
        assert_eq!(done.code, Some(1), "{done:?}");
        assert!(done.stderr.contains(&address), "{}", done.stderr);
    }
}

#[tokio::test]
async fn sigterm_finishes_what_is_under_way_takes_nothing_new_and_exits_zero() {
    let mesh = Mesh::open().await;
    let caller = mesh.caller().await;
    let proxy = caller.http_proxy();
    let slow = tokio::spawn(async move { client::get(proxy, &url("/slow/2000")).await });
    until("the request at the service", || async {
        if mesh.app.received().is_empty() { Err(()) } else { Ok(()) }
    })
    .await;
    let Mesh { mut sidecar, app, world, .. } = mesh;
    let (inbound, admin) = (sidecar.inbound(8080), sidecar.admin_address());
    sidecar.process.terminate().await;
    until("readiness to end", || async {
        let Ok(socket) = TcpStream::connect(admin).await else { return Ok(()) };
        drop(socket);
        let status = sidecar.admin("/ready").await.status;
        if status == StatusCode::SERVICE_UNAVAILABLE { Ok(()) } else { Err(status) }
    })
    .await;
    until("the listener to close", || async {
        if TcpStream::connect(inbound).await.is_err() { Ok(()) } else { Err(()) }
    })
    .await;
    let answer = slow.await.unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (StatusCode::OK, "slow"));
    assert!(sidecar.process.exit().await.success());
    assert_eq!(app.received().len(), 1);
    drop(world);
}

#[tokio::test]
async fn what_outlasts_the_drain_deadline_is_cut() {
    let world = World::of_files(PALISADE);
    let app = Upstream::start("ledger").await;
    world.policy("allow.yaml", ALLOW_MESH);
    let builder = world.file_sidecar("payments/ledger").arg("--drain-deadline", "500ms");
    let mut sidecar = builder.serve(8080, app.address()).start().await;
    let svid = world.pki.svid("payments/web");
    let expected = palisade_tests::world::expecting("payments/ledger");
    let stream = client::connect_tls(sidecar.inbound(8080), Some(&svid), &world.pki.bundle, expected, HTTP1);
    let stream = stream.await.unwrap();
    let hanging = tokio::spawn(client::send_on(stream, get("/drip/100000")));
    until("the request at the service", || async {
        if app.received().is_empty() { Err(()) } else { Ok(()) }
    })
    .await;
    sidecar.process.terminate().await;
    let started = tokio::time::Instant::now();
    sidecar.process.exit().await;
    assert!(started.elapsed() < DEADLINE / 2, "{:?}", started.elapsed());
    assert!(hanging.await.unwrap().is_err());
    let records = std::fs::read_to_string(world.folder().join("payments-ledger.records.jsonl")).unwrap();
    assert_eq!(records.lines().count(), 1, "{records}");
}
