//! The control plane is away: traffic goes on, restarts work, and what it missed arrives when it is back.

use http::StatusCode;
use palisade_tests::client;
use palisade_tests::{Upstream, World, until};
use serde_json::Value;

use crate::PALISADE;
use crate::fleet::{ALLOW_WEB, DENY_CLOSED, Fleet, Traffic, assert_readable, ledger, world};

#[tokio::test]
async fn no_request_fails_while_the_control_plane_is_killed_and_started_again() {
    let mut fleet = Fleet::open().await;
    let traffic = Traffic::start(fleet.web.http_proxy());
    traffic.goes_on(100).await;
    for _ in 0..2 {
        fleet.world.kill_control_plane().await;
        traffic.goes_on(200).await;
        fleet.world.start_control_plane().await;
        traffic.goes_on(100).await;
    }
    until("both proxies to be back", || async {
        let proxies = fleet.world.proxies().await;
        if proxies.iter().filter(|p| p["connected"] == true && p["ready"] == true).count() == 2 {
            Ok(())
        } else {
            Err(proxies)
        }
    })
    .await;
    // What is new arrives, while traffic goes on.
    fleet.world.apply(DENY_CLOSED).await;
    assert_eq!(fleet.get("/closed").await.status, StatusCode::FORBIDDEN);
    traffic.goes_on(100).await;
    traffic.assert_no_failure().await;
}

#[tokio::test]
async fn sidecars_restarted_during_an_outage_serve_from_their_state_folders() {
    let mut fleet = Fleet::open().await;
    assert_eq!(fleet.get("/before").await.status, StatusCode::OK);
    // What is acked was written down; what is in force may not have been yet.
    until("both proxies to have acked what is in force", || async {
        let proxies = fleet.world.proxies().await;
        let acked: Vec<u64> = proxies.iter().filter_map(|proxy| proxy["acked_version"].as_u64()).collect();
        if acked.len() == 2 && acked.iter().all(|version| *version > 1) { Ok(()) } else { Err(proxies) }
    })
    .await;
    fleet.world.kill_control_plane().await;
    // Its ports are other ones now, and there is nobody to tell callers; a fixed port keeps the old address.
    let Fleet { world, app, ledger: serving, web } = fleet;
    let inbound = serving.inbound(8080).to_string();
    drop(serving);
    let serve = format!("8080,protocol=http,listen={inbound},app={}", app.address());
    let serving = world.sidecar_from_state("payments-ledger").arg("--serve", &serve).start().await;
    let web = web.restart().await;
    web.ready().await;
    app.clear();
    assert_eq!(client::get(web.http_proxy(), &ledger("/during")).await.status, StatusCode::OK);
    assert_eq!(app.last().target, "/during");
    let ready: Value = serde_json::from_slice(&serving.admin("/ready").await.body).unwrap();
    assert_eq!(ready["control_plane"], "disconnected", "{ready}");
}

#[tokio::test]
async fn a_proxy_that_starts_before_its_control_plane_keeps_trying_and_lets_nothing_pass() {
    let mut world = world().await;
    world.apply(ALLOW_WEB).await;
    let app = Upstream::start("ledger").await;
    let builder = world.sidecar("payments/ledger").await.serve(8080, app.address()).outbound();
    world.kill_control_plane().await;
    let sidecar = builder.spawn().await;
    until("the proxy to say what is missing", || async {
        let log = sidecar.process.log();
        if log.contains("control plane") && log.contains(&world.address().to_string()) {
            Ok(())
        } else {
            Err(log)
        }
    })
    .await;
    assert_readable(&sidecar.process.log(), &[]);
    let answer = sidecar.admin("/ready").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    let ready: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(ready["missing"], serde_json::json!(["certificate", "configuration"]), "{ready}");
    assert_eq!(ready["control_plane"], "disconnected", "{ready}");

    let stranger = World::of_files(PALISADE);
    let expected = palisade_tests::world::expecting("payments/ledger");
    let svid = stranger.pki.svid("payments/web");
    let inbound = sidecar.inbound(8080);
    let connected =
        client::connect_tls(inbound, Some(&svid), &stranger.pki.bundle, expected, &[b"http/1.1"]).await;
    assert!(connected.is_err());
    let plain = client::request("GET", "/plain", "");
    let socket = tokio::net::TcpStream::connect(inbound).await.unwrap();
    if let Ok(answer) = client::send_on(socket, plain).await {
        assert_ne!(answer.status, StatusCode::OK);
    }
    let out = client::get(sidecar.http_proxy(), &ledger("/out")).await;
    assert_eq!(out.status, StatusCode::SERVICE_UNAVAILABLE);
    app.assert_untouched();

    world.start_control_plane().await;
    sidecar.ready().await;
}
