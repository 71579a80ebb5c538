//! `compose.yaml` with a real Docker: `cargo test -p palisade-tests --features containers --test compose`.
//! `PALISADE_IMAGE` names the image, `palisade` unless set; it has to be there.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "all of this is test code: a surprise must fail the test on the spot"
)]

mod project;

use palisade_tests::until;
use project::{Project, docker};
use serde_json::{Value, json};
use tokio::process::Command;

const PALISADE: &str = env!("CARGO_BIN_EXE_palisade-under-test");
const ENTRIES: &str = "http://ledger.fintech:8080/entries";
const SERVICES: [&str; 5] = ["auth", "accounts", "payments", "ledger", "notifications"];

#[tokio::test]
async fn the_scenes_of_the_demo_come_out_between_containers_too() {
    let project = Project::up().await;
    let done = Command::new(PALISADE)
        .args(["demo", "--check", "--compose-project", project.name()])
        .output()
        .await
        .unwrap();
    let stdout = String::from_utf8_lossy(&done.stdout);
    assert_eq!(done.status.code(), Some(0), "{stdout}\n{}", String::from_utf8_lossy(&done.stderr));
    assert!(stdout.contains("20 of 20 scenes as expected"), "{stdout}");
    // These two are not what they are between processes.
    let words = stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    for service in SERVICES {
        let tried = format!("connects to [8080, 15001, 15000, 15100] and 15006 of {service}-sidecar");
        assert!(words.contains(&tried), "{stdout}");
    }
    assert_eq!(words.matches("refused, refused, refused, refused; 15006: open").count(), 5, "{stdout}");
    assert!(words.contains("docker compose kill control-plane") && words.contains(", 0 failed"), "{stdout}");
    project.down().await;
}

#[tokio::test]
async fn containers_have_no_rights_show_no_secrets_and_come_back_after_restarts() {
    let project = Project::up().await;
    let containers = project.containers().await;
    assert_eq!(containers.len(), 22, "{containers:?}");
    assert_no_rights(&containers).await;
    assert_no_secret_shows(&project, &containers).await;
    assert_a_pair_comes_back_without_the_control_plane(&project).await;
    assert_a_pair_is_found_at_its_new_address(&project).await;
    project.down().await;
}

async fn assert_no_rights(containers: &[String]) {
    for container in containers {
        let all: Value = serde_json::from_str(&docker(&["inspect", container]).await).unwrap();
        let (config, host) = (&all[0]["Config"], &all[0]["HostConfig"]);
        let name = &all[0]["Name"];
        assert_eq!(config["User"], "65532:65532", "{name}");
        assert_eq!(host["ReadonlyRootfs"], true, "{name}");
        assert_eq!(host["CapDrop"], json!(["ALL"]), "{name}");
        assert!(host["CapAdd"].is_null() && host["Privileged"] == false, "{name}");
        assert!(host["SecurityOpt"].to_string().contains("no-new-privileges"), "{name}");
        // Services are in no network: they have their sidecar's.
        let service = config["Labels"]["com.docker.compose.service"].as_str().unwrap();
        if SERVICES.contains(&service) {
            assert!(host["NetworkMode"].as_str().unwrap().starts_with("container:"), "{name}");
        }
        let ports = host["PortBindings"].as_object();
        let published = ports.map_or(0, |ports| ports.values().filter(|bound| !bound.is_null()).count());
        assert_eq!(published, if service == "edge-sidecar" { 2 } else { 0 }, "{name}");
    }
}

/// Join tokens are in files of their workload, and nowhere that `docker` shows.
async fn assert_no_secret_shows(project: &Project, containers: &[String]) {
    let folder = tempfile::tempdir().unwrap();
    let mut tokens = Vec::new();
    for workload in SERVICES.iter().map(|service| format!("{service}-sidecar")).chain(["edge".into()]) {
        let to = folder.path().join(&workload);
        let from = format!("{}:/var/lib/palisade/state/join-token", project.container(&workload).await);
        docker(&["cp", &from, &to.display().to_string()]).await;
        tokens.push(std::fs::read_to_string(to).unwrap().trim().to_owned());
    }
    assert!(tokens.iter().all(|token| token.len() > 40), "no tokens");
    for container in containers {
        let shown = docker(&["inspect", container]).await + &docker(&["logs", container]).await;
        assert!(!tokens.iter().any(|token| shown.contains(token)), "{container} shows a join token");
        assert!(!shown.contains("PRIVATE KEY"), "{container} shows a key");
    }
}

/// Identity and policy are in the workload's volume.
async fn assert_a_pair_comes_back_without_the_control_plane(project: &Project) {
    project.compose(&["stop", "control-plane"]).await;
    project.restart("payments-sidecar").await;
    project.restart("payments").await;
    assert_eq!(project.call("payments-sidecar", ENTRIES).await, "200");
    project.compose(&["start", "control-plane"]).await;
    project.until_healthy("control-plane").await;
}

/// A container gets another address, perhaps, when it is started again.
async fn assert_a_pair_is_found_at_its_new_address(project: &Project) {
    project.restart("ledger-sidecar").await;
    project.restart("ledger").await;
    until("payments to find the ledger", || async {
        let status = project.call("payments-sidecar", ENTRIES).await;
        if status == "200" { Ok(()) } else { Err(status) }
    })
    .await;
}
