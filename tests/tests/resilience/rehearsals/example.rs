//! The rehearsals of the fintech example, in short, on the demo's mesh; and others that break something in it.

use std::fs;
use std::path::{Path, PathBuf};

use palisade_tests::process::{Finished, Process, run};
use palisade_tests::{client, until};
use serde_json::Value;
use tempfile::TempDir;

use crate::PALISADE;

const PLAYED: [&str; 5] =
    ["control-plane-away", "dead-ledger", "flapping-instance", "lost-responses", "slow-ledger"];

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
            let text = fs::read_to_string(&file).map_err(|_absent| demo.log())?;
            Ok::<_, String>(serde_json::from_str(&text).unwrap())
        })
        .await;
        Self { folder, demo, places }
    }

    /// Plays one in short.
    async fn try_play(&self, file: &Path, more: &[&str]) -> Finished {
        let file = file.display().to_string();
        let values = self.folder.path().join("mesh.json").display().to_string();
        let short = ["warmUp=500ms", "window=1s", "for=2s", "p99=3s"];
        let set = short.iter().chain(more).flat_map(|value| ["--set", value]);
        let args = ["rehearse", &file, "--values", &values, "-o", "json"].into_iter().chain(set);
        run(Path::new(PALISADE), &args.map(str::to_owned).collect::<Vec<_>>()).await
    }

    /// Plays one of the example, which holds, and gives its report.
    async fn play(&self, name: &str, more: &[&str]) -> Value {
        let done = self.try_play(&rehearsals().join(format!("{name}.yaml")), more).await;
        assert_eq!(done.code, Some(0), "{name}: {}\n{}", done.stdout, done.stderr);
        serde_json::from_str(&done.stdout).unwrap()
    }

    /// Plays one of the example that was changed, and gives its report.
    async fn play_changed(&self, name: &str, changes: &[(&str, &str)], more: &[&str], code: i32) -> Value {
        let mut text = fs::read_to_string(rehearsals().join(format!("{name}.yaml"))).unwrap();
        for (from, to) in changes {
            assert!(text.contains(from), "{name} has no {from}");
            text = text.replace(from, to);
        }
        let file = self.folder.path().join("changed.yaml");
        fs::write(&file, text).unwrap();
        let done = self.try_play(&file, more).await;
        assert_eq!(done.code, Some(code), "{name}: {}\n{}", done.stdout, done.stderr);
        serde_json::from_str(&done.stdout).unwrap()
    }

    /// An operator's command.
    async fn operate(&self, words: &[&str]) -> Finished {
        let place = |name: &str| self.places[name].as_str().unwrap().to_owned();
        let (server, directory) = (place("server"), place("operatorDir"));
        let options = ["--server", &server, "--operator-dir", &directory];
        let args = words.iter().chain(&options).map(|word| (*word).to_owned());
        let done = run(Path::new(PALISADE), &args.collect::<Vec<_>>()).await;
        assert_eq!(done.code, Some(0), "{words:?}: {done:?}");
        done
    }

    /// An instance leaves the mesh.
    async fn terminate(&self, sidecar: u64) {
        let kill = ["-c".to_owned(), format!("kill -TERM {sidecar}")];
        assert_eq!(run(Path::new("sh"), &kill).await.code, Some(0));
        let of_payments = |name: &str| self.places["payments"][name].as_str().unwrap();
        let (admin, outbound) = (of_payments("admin"), of_payments("outbound"));
        until("payments to know one ledger", || async {
            // Where requests go is looked up with the next one.
            let call = client::request("GET", "http://ledger.fintech:8080/entries", "");
            client::send(outbound.parse().unwrap(), call).await;
            let request = client::request("GET", &format!("http://{admin}/upstreams"), "");
            let page = client::send(admin.parse().unwrap(), request).await.text();
            let page: Value = serde_json::from_str(&page).unwrap();
            let of_ledger = |cluster: &&Value| cluster["cluster"].as_str().unwrap().contains("||ledger.");
            let ledger = page.as_array().unwrap().iter().find(of_ledger).unwrap();
            if ledger["endpoints"].as_array().unwrap().len() == 1 { Ok(()) } else { Err(page.to_string()) }
        })
        .await;
    }

    /// Applies one document.
    async fn apply(&self, kind: &str, namespace: &str, name: &str, spec: &str) {
        let version = match kind {
            "VirtualService" => "networking.istio.io/v1",
            _ => "palisade.mesh/v1",
        };
        let text = format!(
            "apiVersion: {version}\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{{spec}}}\n"
        );
        let file = self.folder.path().join("applied.yaml");
        fs::write(&file, text).unwrap();
        self.operate(&["apply", &file.display().to_string(), "--wait", "5s"]).await;
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

/// How many requests of the only step failed so.
fn failed(report: &Value, how: &str) -> u64 {
    report["steps"][0]["window"]["failures"][how].as_u64().unwrap_or_default()
}

/// All requests that have ended, those of the warm-up too.
fn sent(report: &Value) -> u64 {
    let points = report["points"].as_array().unwrap().iter();
    points.map(|point| point["succeeded"].as_u64().unwrap() + point["failed"].as_u64().unwrap()).sum()
}

/// They hold, and something was really broken: a rehearsal of which nobody notices anything holds as well.
#[tokio::test(flavor = "multi_thread")]
async fn the_rehearsals_of_the_example_hold() {
    let stage = Stage::start().await;

    let slow = stage.play("slow-ledger", &["slowP99=6s"]).await;
    let step = &slow["steps"][0];
    assert!(step["window"]["p99_ms"].as_f64().unwrap() >= 2000.0, "some waited for it: {step}");
    assert!(failed(&slow, "503") > 0, "and others heard at once that there are too many: {step}");
    assert_eq!(step["opened"]["cause"], "requests", "{step}");

    let before = stage.delivered().await;
    let lost = stage.play("lost-responses", &[]).await;
    let (delivered, all, step) = (stage.delivered().await - before, sent(&lost), &lost["steps"][0]);
    assert!(
        step["window"]["failed"].as_u64().unwrap() > 0 && step["injected"].as_u64().unwrap() > 0,
        "{step}"
    );
    // Of those that were under way at the end some may have come.
    assert!((all..=all + 5).contains(&delivered), "{all} were sent, {delivered} delivered: {lost}");

    // Before a dead one: an instance that is left out already does not die for anybody.
    let flapping = stage.play("flapping-instance", &["downFor=500ms", "upFor=500ms"]).await;
    let step = &flapping["steps"][0];
    assert!(
        step["counted"]["retries"].as_u64().unwrap() > 0,
        "what the dead one did not take the other one did: {step}"
    );

    let dead = stage.play("dead-ledger", &[]).await;
    let step = &dead["steps"][0];
    assert!(failed(&dead, "503") > 20, "nobody was there to answer: {step}");
    assert_eq!(step["opened"]["cause"], "consecutive_5xx", "{step}");

    let before = stage.delivered().await;
    let away = stage.play("control-plane-away", &[]).await;
    let (delivered, all) = (stage.delivered().await - before, sent(&away));
    assert_eq!(away["whole"]["failed"], 0, "nobody noticed: {away}");
    assert!(all > 20 && (all..=all + 5).contains(&delivered), "{all} were sent, {delivered} delivered");
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guard_that_breaks_ends_the_fault() {
    let stage = Stage::start().await;
    let abort = ("fault: {delay: {fixed: 2s}}", "fault: {abort: {httpStatus: 500}}");
    let guard = ("successRateBelow: 20", "successRateBelow: 90");
    let aborted = stage.play_changed("slow-ledger", &[abort, guard], &["for=5m"], 1).await;
    assert_eq!(aborted["verdict"], "aborted");
    assert!(aborted["why"][0].as_str().unwrap().starts_with("the guard broke: "), "{aborted}");
    assert!(failed(&aborted, "500") > 0, "{aborted}");
    let left = stage.operate(&["fault", "list", "-o", "json"]).await;
    assert!(!left.stdout.contains("rehearsal-slow-ledger"), "the fault is still there: {}", left.stdout);
    // And the mesh is as it was: a rehearsal begins only where the steady state holds.
    let of_nobody = ("sa/payments]", "sa/accounts]");
    let nothing = stage.play_changed("slow-ledger", &[of_nobody], &[], 1).await;
    let breaches = nothing["steps"][0]["breaches"].as_array().unwrap();
    let said = |what: &str| breaches.iter().any(|breach| breach.as_str().unwrap().contains(what));
    assert!(said("no observed proxy injected the fault") && said("no breaker opened"), "{nothing}");

    stage.apply("MeshConfig", "palisade-system", "default", "faults: {maxDuration: 10s}").await;
    let refused = stage.play_changed("slow-ledger", &[], &[], 3).await;
    let why = refused["why"][0].as_str().unwrap();
    assert!(why.contains("the fault of step 1 (ledger +2 s) cannot be injected: PAL2406"), "{why}");
    stage.stop().await;
}

/// Somebody says that an entry may be made again on a doubt, of a ledger that does not know keys. The rehearsal that held finds
/// it.
#[tokio::test(flavor = "multi_thread")]
async fn a_mesh_that_pays_twice_does_not_pass_the_rehearsal() {
    let stage = Stage::start().await;
    let again = "http: [{route: [{destination: {host: ledger}}], retries: {attempts: 2, retryOn: reset}}]";
    stage.apply("VirtualService", "fintech", "ledger", &format!("hosts: [ledger], {again}")).await;
    let rules = "host: ledger, duplicates: {}, rules: [{idempotencyKey: Idempotency-Key, match: [{methods: [POST], paths: [/entries]}]}]";
    stage.apply("RetryPolicy", "fintech", "ledger", rules).await;
    let keyed = ("ratePerSecond: 30", "ratePerSecond: 30\n    idempotencyKey: Idempotency-Key");
    let twice = stage.play_changed("lost-responses", &[keyed], &[], 1).await;
    let breaches = twice["steps"][0]["breaches"].as_array().unwrap();
    let of_retries =
        |breach: &Value| breach.as_str().unwrap().ends_with("after the first, at most 0 was to be");
    assert!(breaches.iter().any(of_retries), "mostly the other ledger gets it: {twice}");

    let (second, one) =
        (stage.places["ledger-2"]["sidecarPid"].as_u64().unwrap(), "    ledger-2: ${ledger-2.admin}\n");
    stage.terminate(second).await;
    let aborted = stage.play_changed("lost-responses", &[keyed, (one, "")], &["for=20s"], 1).await;
    assert_eq!(aborted["verdict"], "aborted", "the only ledger gets it twice: {aborted}");
    let why = aborted["why"][0].as_str().unwrap();
    assert!(why.contains("duplicate deliver") && why.contains("at most 0 was to be"), "{why}");
    stage.stop().await;
}

#[test]
fn every_rehearsal_of_the_example_is_played() {
    let mut found: Vec<String> = fs::read_dir(rehearsals())
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    found.sort();
    assert_eq!(found, PLAYED);
}
