//! `palisade mtls readiness` without a log: what running sidecars report.

use http::StatusCode;
use palisade_proto::v1::{self, ServiceCalls};
use palisade_tests::tcp::{GREETING, TcpService};
use palisade_tests::{Upstream, World, client, until};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::PALISADE;
use crate::fleet::ledger;
use crate::kit::{PERMISSIVE, STRICT, get};

const LEDGER: &str = "spiffe://test.mesh/ns/payments/sa/ledger";

/// What is reported of a port of the ledger, once it is as wanted.
async fn until_reported(world: &World, port: u32, wanted: impl Fn(&ServiceCalls) -> bool) {
    let (admin, wanted) = (world.admin().await, &wanted);
    until("the report of the ledger", move || {
        let mut admin = admin.clone();
        async move {
            let answer = admin.mtls_readiness(v1::MtlsReadinessRequest {}).await.unwrap().into_inner();
            let found = answer.ports.iter().find(|p| p.spiffe_id == LEDGER && p.port == port);
            if found.is_some_and(wanted) { Ok(()) } else { Err(answer) }
        }
    })
    .await;
}

/// Exit code and ports as the command tells them.
async fn ask(world: &World, observed: &str) -> (i32, Vec<Value>) {
    let done = world.operator(&["mtls", "readiness", "--observed", observed, "-o", "json"]).await;
    let value: Value = serde_json::from_str(&done.stdout).unwrap_or_else(|_| panic!("{done:?}"));
    (done.code.unwrap(), value["ports"].as_array().unwrap().clone())
}

fn of<'v>(ports: &'v [Value], service: &str, port: u16) -> &'v Value {
    let found = ports.iter().find(|p| p["service"].as_str().unwrap().ends_with(service) && p["port"] == port);
    found.unwrap_or_else(|| panic!("no {service}:{port} in {ports:#?}"))
}

#[tokio::test]
async fn readiness_for_strict_is_known_from_running_sidecars_and_never_guessed() {
    let mut world = World::start(PALISADE).await;
    world.apply(PERMISSIVE).await;
    let (app, database) = (Upstream::start("ledger").await, TcpService::start().await);
    let sidecar = world.sidecar("payments/ledger").await.serve(8080, app.address());
    let sidecar = sidecar.serve_as(5432, "tcp", database.address()).start().await;
    let web = world.sidecar("payments/web").await.outbound().start().await;
    // It is known to the registry, and its proxy says nothing of who calls.
    let old = world.join("payments/old").await;
    let _published = world.publish(&old, "127.0.0.1:9").await;

    until("a call with a certificate", || async {
        let status = client::get(web.http_proxy(), &ledger("/entries")).await.status;
        if status == StatusCode::OK { Ok(()) } else { Err(status) }
    })
    .await;
    until_reported(&world, 8080, |port| port.mutual_tls > 0).await;
    let (code, ports) = ask(&world, "0s").await;
    let http = of(&ports, "/ledger", 8080);
    assert_eq!((&http["verdict"], &http["modes"]), (&json!("ready"), &json!(["PERMISSIVE"])), "{http}");
    assert_eq!((&http["plaintext"], &http["plaintext_sources"]), (&json!(0), &json!([])), "{http}");
    assert_eq!(of(&ports, "/ledger", 5432)["because"], "nobody called");
    let silent = of(&ports, "/old", 8080);
    assert_eq!((&silent["verdict"], &silent["because"]), (&json!("unknown"), &json!("no report")));
    assert_eq!((code, ports.len()), (1, 3), "{ports:#?}");
    let (_, ports) = ask(&world, "24h").await;
    assert_eq!(of(&ports, "/ledger", 8080)["verdict"], "unknown", "not watched for a day");

    assert_eq!(client::send(sidecar.inbound(8080), get("/entries")).await.status, StatusCode::OK);
    // A connection that stays is plaintext for as long as it is there.
    let mut open = TcpStream::connect(sidecar.inbound(5432)).await.unwrap();
    let mut greeting = vec![0; GREETING.len()];
    open.read_exact(&mut greeting).await.unwrap();
    until_reported(&world, 8080, |port| port.plaintext == 1).await;
    until_reported(&world, 5432, |port| port.plaintext == 1 && port.plaintext_seconds_ago < Some(12)).await;
    // A restart of the control plane forgets nothing of who is still there.
    world.kill_control_plane().await;
    world.start_control_plane().await;
    until_reported(&world, 8080, |port| port.plaintext == 1 && port.watched_seconds.is_some()).await;
    let (code, ports) = ask(&world, "1h").await;
    let http = of(&ports, "/ledger", 8080);
    assert_eq!((code, &http["verdict"], &http["plaintext"]), (1, &json!("not_ready"), &json!(1)), "{http}");
    let caller = &http["plaintext_sources"][0];
    assert!(caller["address"].as_str().unwrap().starts_with("127."), "{http}");
    assert!(caller["calls"] == 1 && caller["last_seen"].as_str().unwrap().ends_with('Z'), "{http}");
    assert_eq!(of(&ports, "/ledger", 5432)["verdict"], "not_ready");
    let shown = world.operator(&["mtls", "readiness", "--observed", "1h"]).await;
    assert!(shown.code == Some(1) && shown.stdout.contains("\nNOT READY  plaintext "), "{shown:?}");
    assert!(shown.stdout.contains(" (1, ") && shown.stdout.contains("restart is forgotten"), "{shown:?}");
    let yaml = world.operator(&["mtls", "readiness", "-o", "yaml"]).await;
    assert!(yaml.code == Some(1) && yaml.stdout.contains("verdict: not_ready"), "{yaml:?}");

    world.apply(STRICT).await;
    until_reported(&world, 8080, |port| port.modes().eq([v1::peer_authentication::Mode::Strict])).await;
}

#[tokio::test]
async fn readiness_without_records_and_without_a_control_plane_says_what_to_name() {
    let world = World::of_files(PALISADE);
    let done = world.palisade(&["mtls", "readiness"]).await;
    assert!(
        done.code == Some(2) && done.stderr.contains("--log") && done.stderr.contains("--server"),
        "{done:?}"
    );
}
