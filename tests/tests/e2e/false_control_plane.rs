//! What stands at the control plane's address and is not the control plane.

use std::time::Duration;

use http::StatusCode;
use palisade_tests::World;
use palisade_tests::wait::until;
use tokio::net::TcpListener;

use crate::PALISADE;
use crate::fleet::Fleet;
use crate::kit::{DENY_ALL, STRICT};

/// Zero policies allow everything in Istio's language: a control plane that lost its store must not open the mesh.
#[tokio::test]
async fn an_empty_control_plane_at_the_same_address_changes_nothing() {
    let mut fleet = Fleet::start(DENY_ALL).await;
    let address = fleet.world.address();
    fleet.world.kill_control_plane().await;
    let data = fleet.world.folder().join("another").display().to_string();
    let listen = address.to_string();
    let args = ["control-plane", "--data-dir", &data, "--trust-domain", "test.mesh", "--listen", &listen]
        .into_iter()
        .chain(["--admin", "127.0.0.1:0"])
        .map(str::to_owned)
        .collect::<Vec<_>>();
    let exe = std::path::Path::new(PALISADE);
    let other = palisade_tests::process::Process::start(exe, fleet.world.folder(), "another", &args);
    until("the proxies to refuse the other control plane", || async {
        let log = fleet.web.process.log();
        if log.contains("unknownRoot") || log.contains("no root of the trust bundle") {
            Ok(())
        } else {
            Err(log)
        }
    })
    .await;
    assert_eq!(fleet.get("/").await.status, StatusCode::FORBIDDEN);
    fleet.app.assert_untouched();
    drop(other);
}

#[tokio::test]
async fn something_that_is_no_control_plane_is_given_up_on_and_tried_again() {
    let mut world = World::start(PALISADE).await;
    world.apply(STRICT).await;
    let builder = world.sidecar("payments/web").await.outbound();
    world.kill_control_plane().await;
    // Accepts and says nothing.
    let silent = TcpListener::bind(world.address()).await.unwrap();
    let holding = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((socket, _)) = silent.accept().await {
            held.push(socket);
            if held.len() == 2 {
                return;
            }
        }
    });
    let web = builder.spawn().await;
    tokio::time::timeout(Duration::from_secs(60), holding).await.expect("a second try").unwrap();
    world.start_control_plane().await;
    web.ready().await;
}
