//! The rehearsals of the fintech example, in short, on the demo's mesh.

use std::fs;
use std::path::{Path, PathBuf};

use palisade_tests::process::{Process, run};
use palisade_tests::{client, until};
use serde_json::Value;
use tempfile::TempDir;

use crate::PALISADE;

/// The demo's mesh, with two ledgers.
struct Stage {
    folder: TempDir,
    demo: Process,
    places: Value,
}

impl Stage {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("mesh.json");
        let args = ["demo".to_owned(), "--ready-file".to_owned(), file.display().to_string()];
        let demo = Process::start(Path::new(PALISADE), folder.path(), "demo", &args);
        let places = until("the demo's mesh", || async {
            fs::read_to_string(&file)
                .map_err(|_absent| demo.log())
                .map(|text| serde_json::from_str(&text).unwrap())
        })
        .await;
        Self { folder, demo, places }
    }

    /// Plays one in short, and gives its report.
    async fn play(&self, name: &str) -> Value {
        let file = rehearsals().join(format!("{name}.yaml")).display().to_string();
        let values = self.folder.path().join("mesh.json").display().to_string();
        let short = ["warmUp=500ms", "window=1s", "for=2s", "p99=3s"];
        let short = short.iter().flat_map(|value| ["--set", value]);
        let args = ["rehearse", &file, "--values", &values, "-o", "json"].into_iter().chain(short);
        let done = run(Path::new(PALISADE), &args.map(str::to_owned).collect::<Vec<_>>()).await;
        assert_eq!(done.code, Some(0), "{name}: {}\n{}", done.stdout, done.stderr);
        serde_json::from_str(&done.stdout).unwrap()
    }

    /// How many requests both ledgers have been given.
    async fn delivered(&self) -> u64 {
        let mut sum = 0;
        for ledger in ["ledger", "ledger-2"] {
            let app = self.places[ledger]["app"].as_str().unwrap();
            let request = client::request("GET", &format!("http://{app}/demo/last-request"), "");
            let answer = client::send(app.parse().unwrap(), request).await;
            sum += serde_json::from_str::<Value>(&answer.text()).unwrap()["number"].as_u64().unwrap();
        }
        sum
    }

    async fn stop(mut self) {
        self.demo.terminate().await;
        assert!(self.demo.exit().await.success(), "{}", self.demo.log());
        assert!(!self.folder.path().join("mesh.json").exists(), "where a mesh was that is gone");
    }
}

fn rehearsals() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("examples/fintech/rehearsals")
}

/// How many requests of the only step failed with this status.
fn failed(report: &Value, how: &str) -> u64 {
    report["steps"][0]["window"]["failures"][how].as_u64().unwrap_or_default()
}

/// They hold, and something was really broken: a rehearsal of which nobody notices anything holds as well.
#[tokio::test(flavor = "multi_thread")]
async fn the_rehearsals_of_the_example_hold() {
    let stage = Stage::start().await;

    let dead = stage.play("dead-ledger").await;
    let step = &dead["steps"][0];
    assert!(failed(&dead, "503") > 20, "nobody was there to answer: {step}");
    assert_eq!(step["opened"]["cause"], "consecutive_5xx", "{step}");

    let flapping = stage.play("flapping-instance").await;
    let step = &flapping["steps"][0];
    assert_eq!(step["opened"]["proxy"], "payments", "the one that died was left out: {step}");

    let before = stage.delivered().await;
    let away = stage.play("control-plane-away").await;
    let requests = away["whole"]["succeeded"].as_u64().unwrap();
    assert_eq!(away["whole"]["failed"], 0, "nobody noticed: {away}");
    assert!(stage.delivered().await >= before + requests, "and all of it reached a ledger");
    stage.stop().await;
}

#[test]
fn every_rehearsal_of_the_example_is_played() {
    let played = ["control-plane-away", "dead-ledger", "flapping-instance"];
    let mut found: Vec<String> = fs::read_dir(rehearsals())
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    found.sort();
    assert_eq!(found, played);
}
