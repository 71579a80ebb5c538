//! The demo, as somebody who has just cloned the project runs it.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use palisade_tests::until;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::PALISADE;

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_plays_every_scene_as_expected() {
    let done = Command::new(PALISADE).args(["demo", "--check"]).output().await.unwrap();
    let stdout = String::from_utf8_lossy(&done.stdout);
    assert_eq!(done.status.code(), Some(0), "{stdout}\n{}", String::from_utf8_lossy(&done.stderr));
    assert!(!stdout.contains("FAIL") && stdout.contains("20 of 20 scenes as expected"), "{stdout}");
    assert!(!stdout.contains('\u{1b}'), "colours where no terminal is: {stdout}");
    assert!(stdout.lines().all(|line| line.chars().count() <= 100), "wider than 100 columns: {stdout}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demo_that_is_asked_to_stop_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let (mut demo, children) = started(folder.path()).await;
    let kill = format!("kill -TERM {}", demo.id().unwrap());
    assert!(Command::new("sh").args(["-c", &kill]).status().await.unwrap().success());
    assert_eq!(demo.wait().await.unwrap().code(), Some(0));
    let left: Vec<u32> = children.into_iter().filter(|pid| runs(*pid)).collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "a temporary directory is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_processes_of_a_killed_demo_end_by_themselves() {
    let folder = tempfile::tempdir().unwrap();
    let (mut demo, children) = started(folder.path()).await;
    demo.kill().await.unwrap();
    until("all processes of the demo to end", || {
        let left: Vec<u32> = children.iter().copied().filter(|pid| runs(*pid)).collect();
        async move { if left.is_empty() { Ok(()) } else { Err(format!("{left:?} run")) } }
    })
    .await;
}

/// A demo whose mesh is up, and the ids of its twelve processes.
async fn started(folder: &Path) -> (Child, Vec<u32>) {
    let mut command = Command::new(PALISADE);
    command.arg("demo").env("TMPDIR", folder).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let mut demo = command.spawn().unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    while let Some(line) = lines.next_line().await.unwrap() {
        if line.contains("stays up") {
            break;
        }
    }
    let id = demo.id().unwrap();
    let mut children = Vec::new();
    for thread in fs::read_dir(format!("/proc/{id}/task")).unwrap() {
        let text = fs::read_to_string(thread.unwrap().path().join("children")).unwrap_or_default();
        children.extend(text.split_whitespace().map(|pid| pid.parse::<u32>().unwrap()));
    }
    assert_eq!(children.len(), 12, "a control plane, five services, five sidecars, an edge");
    // Whoever holds the pipe lets the demo go on printing.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    (demo, children)
}

/// A zombie has ended; whoever it belongs to now has not looked yet.
fn runs(pid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    let state = stat.rsplit_once(')').map_or("", |(_, rest)| rest.trim_start());
    !state.starts_with('Z')
}
