//! What outlives a restart.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use tempfile::TempDir;

use crate::member::source;
use crate::plane::Plane;
use crate::support::{LEDGER, Running, settings, until};

/// A control plane that has gone, and the state that a proxy of it left.
async fn left_behind() -> (Plane, TempDir, PathBuf) {
    let (plane, folder) = (Plane::start().await, TempDir::new().unwrap());
    let state = folder.path().join("state");
    let proxy = start(&plane, &folder, Some(plane.token()));
    proxy.until_ready().await;
    until("a kept snapshot", || async { state.join("snapshot.bin").exists().then_some(()) }).await;
    proxy.stop().await.unwrap();
    (plane, folder, state)
}

fn start(plane: &Plane, folder: &TempDir, token: Option<String>) -> Running {
    let state = folder.path().join("state");
    Running::start(settings(source(plane, token, Some(&state)), folder.path()))
}

fn names(state: &PathBuf) -> String {
    let names = fs::read_dir(state).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn a_restart_while_the_control_plane_is_away_serves_at_once() {
    let (plane, folder, state) = left_behind().await;
    let mode = |path: &PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&state), 0o700);
    for name in ["member.json", "snapshot.bin", "lock"] {
        assert_eq!(mode(&state.join(name)), 0o600, "{name}");
    }
    let gone = settings(source(&plane, None, Some(&state)), folder.path());
    plane.stop().await;
    let proxy = Running::start(gone);
    proxy.until_ready().await;
    assert_eq!(proxy.json("/certs").await["identity"]["id"], LEDGER);
    assert_eq!(proxy.json("/config").await["configuration"]["version"], 1);
    assert_eq!(proxy.json("/ready").await["control_plane"], "disconnected");
    proxy.stop().await.unwrap();
}

#[tokio::test]
async fn a_restart_does_not_use_the_token_again() {
    let (plane, folder, _state) = left_behind().await;
    let proxy = start(&plane, &folder, Some(plane.token()));
    proxy.until_ready().await;
    assert_eq!(plane.heard(|heard| heard.attests), 1);
    proxy.stop().await.unwrap();
}

#[tokio::test]
async fn a_cut_member_file_is_moved_aside_and_the_proxy_attests_anew() {
    let (plane, folder, state) = left_behind().await;
    let whole = fs::read(state.join("member.json")).unwrap();
    fs::write(state.join("member.json"), &whole[..whole.len() / 2]).unwrap();
    let proxy = start(&plane, &folder, Some(plane.token()));
    proxy.until_ready().await;
    assert_eq!(plane.heard(|heard| heard.attests), 2);
    assert!(names(&state).contains("member.json.damaged-"), "{}", names(&state));
    proxy.stop().await.unwrap();
}

#[tokio::test]
async fn a_damaged_snapshot_is_moved_aside_and_never_used() {
    let (plane, folder, state) = left_behind().await;
    plane.script(|script| script.greeting.clear());
    for damage in ["cut", "flipped"] {
        let path = state.join("snapshot.bin");
        let mut bytes = fs::read(&path).unwrap();
        match damage {
            "cut" => bytes.truncate(20),
            _ => *bytes.last_mut().unwrap() ^= 1,
        }
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &bytes).unwrap();
        let proxy = start(&plane, &folder, None);
        until("the identity", || async {
            (proxy.json("/certs").await["identity"]["id"] == LEDGER).then_some(())
        })
        .await;
        assert_eq!(proxy.json("/ready").await["missing"], serde_json::json!(["configuration"]), "{damage}");
        assert!(names(&state).contains("snapshot.bin.damaged-"), "{}", names(&state));
        proxy.stop().await.unwrap();
        fs::write(&path, &whole).unwrap();
    }
}

#[tokio::test]
async fn a_state_directory_is_for_one_process_and_for_nobody_else() {
    let (plane, folder, state) = left_behind().await;
    let proxy = start(&plane, &folder, None);
    proxy.until_ready().await;
    let second = TempDir::new().unwrap();
    let error = Running::start(settings(source(&plane, None, Some(&state)), second.path())).end().await;
    let text = error.unwrap_err().to_string();
    assert!(text.contains("another proxy is using it"), "{text}");
    proxy.stop().await.unwrap();

    fs::set_permissions(&state, fs::Permissions::from_mode(0o755)).unwrap();
    let text = start(&plane, &folder, None).end().await.unwrap_err().to_string();
    assert!(text.contains("chmod 700"), "{text}");
}
