//! `palisade evict`: the proxy stops serving and calling, gets no new certificate, and stays out.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use http::StatusCode;
use palisade_tests::client;
use palisade_tests::until;
use serde_json::Value;

use crate::fleet::{Fleet, assert_readable, assert_refused, ledger};

async fn instance(fleet: &Fleet, service_account: &str) -> String {
    let proxies = fleet.world.proxies().await;
    let found = proxies
        .iter()
        .find(|proxy| proxy["spiffe_id"].as_str().unwrap().ends_with(&format!("/sa/{service_account}")));
    found.unwrap()["instance_id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_evicted_service_is_called_no_more_and_does_not_come_back() {
    let mut fleet = Fleet::open().await;
    assert_eq!(fleet.get("/before").await.status, StatusCode::OK);
    fleet.app.clear();
    copy_state(fleet.world.folder(), "payments-ledger", "stolen");
    let id = instance(&fleet, "ledger").await;
    let done = fleet.world.operator(&["evict", &id, "--reason", "stolen host"]).await;
    assert_eq!(done.code, Some(0), "{done:?}");
    until("the service to be gone", || async {
        let answer = fleet.get("/after").await;
        if matches!(answer.status.as_u16(), 502 | 503) { Ok(()) } else { Err(answer.status) }
    })
    .await;
    // A caller that still knows the address is turned away in the handshake.
    let caller = fleet.world.join("payments/web").await;
    if fleet.ledger.process.ended().is_none() {
        let expected = palisade_tests::world::expecting("payments/ledger");
        let bundle = fleet.world.mesh_bundle();
        let inbound = fleet.ledger.inbound(8080);
        let connected = client::connect_tls(inbound, Some(&caller.svid), &bundle, expected, &[b"http/1.1"]);
        assert!(connected.await.is_err(), "an evicted proxy took a connection");
    }
    fleet.app.assert_untouched();
    until("the proxy to say so", || async {
        let log = fleet.ledger.process.log();
        if log.contains("evicted") { Ok(()) } else { Err(log) }
    })
    .await;
    assert_readable(&fleet.ledger.process.log(), &["evicted", "stolen host"]);

    drop(fleet.ledger);
    // A copy of its state folder is worth nothing either: the control plane knows the certificate in it.
    for name in ["payments-ledger", "stolen"] {
        let world = &fleet.world;
        let mut again = world.sidecar_from_state(name).serve(8080, fleet.app.address()).launch();
        let log = until("the restarted proxy to be refused", || {
            let over = again.ended().is_some();
            let log = again.log();
            async move { if over || log.contains("evicted") { Ok(log) } else { Err(log) } }
        })
        .await;
        assert_readable(&log, &["new token"]);
        let answer = client::get(fleet.web.http_proxy(), &ledger("/again")).await;
        assert!(matches!(answer.status.as_u16(), 502 | 503), "{answer:?}");
    }
    fleet.app.assert_untouched();
}

/// A copy of everything that a sidecar keeps.
fn copy_state(folder: &Path, from: &str, to: &str) {
    let (from, to) = (folder.join(format!("{from}.state")), folder.join(format!("{to}.state")));
    fs::create_dir(&to).unwrap();
    fs::set_permissions(&to, fs::Permissions::from_mode(0o700)).unwrap();
    let mut copied = 0;
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        copied += 1;
    }
    assert!(copied > 1, "the state folder holds {copied} files");
}

#[tokio::test]
async fn an_evicted_caller_calls_no_more() {
    let mut fleet = Fleet::open().await;
    let mut kept = crate::fleet::connect(fleet.web.http_proxy()).await;
    let response = kept.send_request(client::request("GET", &ledger("/before"), "")).await.unwrap();
    assert_eq!(client::read(response).await.unwrap().status, StatusCode::OK);
    let id = instance(&fleet, "web").await;
    let done = fleet.world.operator(&["evict", &id]).await;
    assert_eq!(done.code, Some(0), "{done:?}");
    until("the proxy to be out", || {
        let over = fleet.web.process.ended().is_some();
        let log = fleet.web.process.log();
        async move { if over || log.contains("evicted") { Ok(()) } else { Err(log) } }
    })
    .await;
    fleet.app.clear();
    if fleet.web.process.ended().is_none() {
        let answer = fleet.get("/after").await;
        assert!(answer.status.is_server_error() || answer.status.is_client_error(), "{answer:?}");
        let ready: Value = serde_json::from_slice(&fleet.web.admin("/ready").await.body).unwrap();
        assert_eq!(ready["ready"], false, "{ready}");
    }
    if kept.ready().await.is_ok() {
        let after = kept.send_request(client::request("GET", &ledger("/after"), "")).await;
        assert!(after.is_err() || after.unwrap().status() != StatusCode::OK);
    }
    fleet.app.assert_untouched();
}

#[tokio::test]
async fn an_evicted_instance_gets_no_certificate_and_no_stream() {
    let world = crate::fleet::world().await;
    let (evicted, kept) = (world.join("payments/ledger").await, world.join("payments/ledger").await);
    let mut stream = world.publish(&evicted, "127.0.0.1:1001").await;
    let done = world.operator(&["evict", &evicted.instance, "--reason", "test"]).await;
    assert_eq!(done.code, Some(0), "{done:?}");
    // The stream says why, and ends.
    loop {
        use palisade_proto::v1::control_message::Message;
        match stream.next().await.unwrap() {
            Message::Evicted(evicted) => break assert_eq!(evicted.reason, "test"),
            Message::Snapshot(_) | Message::Bundle(_) => {}
        }
    }
    assert!(stream.next().await.is_err());
    assert_eq!(world.renew(&evicted).await.unwrap_err().code(), tonic::Code::PermissionDenied);
    world.renew(&kept).await.unwrap();

    let unknown = world.operator(&["evict", "ledger-0000000000000000"]).await;
    assert_refused(&unknown, 1, &["no such instance", "palisade proxies"]);
}
