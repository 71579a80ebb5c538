//! `palisade fault`: experiments made, seen and stopped without writing a document.

use palisade_tests::process::Finished;
use palisade_tests::{Upstream, until};
use serde_json::Value;

use super::{VAULT, WEB, experiment, told};
use crate::fleet::{Fleet, assert_refused, harmless, world};

const NOBODY: [&str; 0] = [];

#[track_caller]
fn done(finished: &Finished) -> &str {
    assert_eq!(finished.code, Some(0), "{finished:?}");
    &finished.stdout
}

#[track_caller]
fn json(finished: &Finished) -> Value {
    serde_json::from_str(done(finished)).unwrap()
}

/// `inject --from web --to ledger --for 5m`, and these words.
async fn inject(fleet: &Fleet, words: &[&str]) -> Finished {
    let base = ["fault", "inject", "--from", "web", "--to", "ledger", "--for", "5m"];
    fleet.world.operator(&[&base[..], words].concat()).await
}

async fn list(fleet: &Fleet) -> Value {
    json(&fleet.world.operator(&["fault", "list", "-o", "json"]).await)["experiments"].clone()
}

#[tokio::test]
async fn an_experiment_is_injected_listed_and_stopped_by_name() {
    let fleet = Fleet::open().await;
    let world = &fleet.world;
    let words = ["--delay", "2s", "--percent", "50", "--path", "/transfers/*", "-m", "is web patient?"];
    let injected = inject(&fleet, &words).await;
    let said = done(&injected);
    for line in [
        "experiment  payments/web-ledger\n",
        "callers     test.mesh/ns/payments/sa/web\n",
        "reaches     test.mesh/ns/payments/sa/web (1 instance)\n",
        "hosts       ledger.payments\n",
        "requests    any /transfers/*\n",
        "fault       delay 2s\n",
        "share       50%, at most 100 at once in each proxy\n",
        "Z, in 5m\n",
        "stop        palisade fault stop payments/web-ledger\n",
        "in force on 2 of 2 connected proxies",
    ] {
        assert!(said.contains(line), "{line:?} is not said:\n{said}");
    }
    assert_eq!(told(&fleet.web).await, ["payments/web-ledger"]);
    assert_eq!(told(&fleet.ledger).await, NOBODY);

    let listed = list(&fleet).await;
    let facts = [&listed[0]["id"], &listed[0]["fault"], &listed[0]["state"], &listed[0]["percent"]];
    assert_eq!(facts, [&Value::from("payments/web-ledger"), &"delay 2s".into(), &"on".into(), &50.0.into()]);
    let table = world.operator(&["fault", "list"]).await;
    assert!(done(&table).contains("ends in ") && table.stdout.contains("EXPERIMENT"), "{table:?}");
    let yaml = world.operator(&["fault", "list", "-o", "yaml", "-n", "payments"]).await;
    assert!(done(&yaml).contains("id: payments/web-ledger"), "{yaml:?}");
    assert_eq!(list(&fleet).await.as_array().map(Vec::len), Some(1));
    let history = json(&world.operator(&["history", "--limit", "1", "-o", "json"]).await);
    let version = &history["versions"][0];
    assert_eq!(version["message"], "is web patient?");
    assert_eq!(version["author"], "spiffe://test.mesh/operator/admin");

    // The same again is another one.
    done(&inject(&fleet, &["--reset", "--header", "x-fault-test=abc"]).await);
    assert_eq!(told(&fleet.web).await, ["payments/web-ledger", "payments/web-ledger-2"]);
    let stopped = world.operator(&["fault", "stop", "web-ledger"]).await;
    assert!(done(&stopped).starts_with("stopped payments/web-ledger\nversion "), "{stopped:?}");
    assert_eq!(told(&fleet.web).await, ["payments/web-ledger-2"]);

    // One of two that is there no more does not keep the other alive.
    let half = world.operator(&["fault", "stop", "payments/web-ledger", "payments/web-ledger-2"]).await;
    assert_refused(
        &half,
        1,
        &["stopped payments/web-ledger-2", "there was no FaultExperiment payments/web-ledger;"],
    );
    assert_eq!(told(&fleet.web).await, NOBODY);
    let nobody = world.operator(&["fault", "stop", "web-ledger"]).await;
    assert_refused(&nobody, 1, &["there is no FaultExperiment web-ledger", "palisade fault list"]);
    assert_eq!(list(&fleet).await, serde_json::json!([]));
}

#[tokio::test]
async fn a_dry_run_prints_a_document_that_apply_takes_and_changes_nothing() {
    let fleet = Fleet::open().await;
    let dry =
        inject(&fleet, &["--drop-response", "--delay", "1s..3s", "--dry-run", "--method", "POST"]).await;
    let document = done(&dry);
    assert!(document.starts_with("apiVersion: palisade.mesh/v1\nkind: FaultExperiment\n"), "{dry:?}");
    assert_eq!(told(&fleet.web).await, NOBODY);
    fleet.world.apply(document).await;
    assert_eq!(told(&fleet.web).await, ["payments/web-ledger"]);
    assert_eq!(list(&fleet).await[0]["fault"], "delay 1s to 3s, answer lost");
}

#[tokio::test]
async fn what_cannot_be_injected_is_refused_with_a_reason() {
    let fleet = Fleet::open().await;
    let world = &fleet.world;
    let rows: [(&[&str], &[&str]); 6] = [
        (&[], &["--delay", "--drop-response", "required"]),
        (&["--reset", "--abort", "503"], &["PAL2403", "cannot both happen"]),
        (&["--delay", "2h"], &["PAL2402", "2h is not within 1ms and 1h"]),
        (&["--reset", "--header", "authorization=x"], &["PAL2405", "no place for a credential"]),
        (&["--reset", "--namespace", "elsewhere"], &["PAL2404", "\"payments\""]),
        (&["--reset", "--percent", "half"], &["--percent", "0 to 100"]),
    ];
    for (words, parts) in rows {
        assert_refused(&inject(&fleet, words).await, 2, parts);
    }
    let unknown = world
        .operator(&["fault", "inject", "--from", "wbe", "--to", "ledger", "--for", "5m", "--reset"])
        .await;
    assert_refused(&unknown, 2, &["no workload wbe has joined", "payments/ledger, payments/web"]);
    let any =
        world.operator(&["fault", "inject", "--from", "*", "--to", "ledger", "--for", "5m", "--reset"]).await;
    assert_refused(&any, 2, &["--namespace palisade-system"]);
    let long = world
        .operator(&["fault", "inject", "--from", "web", "--to", "ledger", "--for", "2h", "--reset"])
        .await;
    assert_refused(&long, 2, &["PAL2406", "2h is longer than the mesh allows: 1h"]);
    world.apply(VAULT).await;
    let vault = inject(&fleet, &["--reset"]).await;
    assert_refused(&vault, 2, &["PAL2407", "calls to \"ledger.payments\" are protected"]);
    assert_eq!(list(&fleet).await, serde_json::json!([]));

    let outside = world
        .operator(&[
            "fault",
            "inject",
            "--from",
            WEB,
            "--to",
            "bank.example",
            "--for",
            "5m",
            "--reset",
            "--name",
            "bank",
        ])
        .await;
    assert!(done(&outside).contains("reaches     nobody that has joined"), "{outside:?}");
    assert!(
        outside.stderr.contains("no service and no ServiceEntry has the host \"bank.example\""),
        "{outside:?}"
    );
    let again = inject(&fleet, &["--reset", "--name", "bank"]).await;
    assert_refused(&again, 2, &["payments/bank is there already", "palisade fault stop payments/bank"]);
}

#[tokio::test]
async fn stop_all_is_one_change_and_every_proxy_has_heard_of_it_within_a_second() {
    let fleet = Fleet::open().await;
    let world = &fleet.world;
    let nothing = world.operator(&["fault", "stop", "--all"]).await;
    assert_eq!(done(&nothing), "there is no experiment; nothing to stop\n");
    for name in ["one", "two", "three"] {
        world.apply(&experiment(name, WEB, "duration: 5m")).await;
    }
    assert_eq!(told(&fleet.web).await.len(), 3);
    let stopped = json(&world.operator(&["fault", "stop", "--all", "-o", "json", "-m", "enough"]).await);
    assert_eq!(stopped["stopped"], serde_json::json!(["payments/one", "payments/three", "payments/two"]));
    let pushes = stopped["pushes"].as_array().unwrap();
    assert_eq!(pushes.len(), 2, "{stopped}");
    for push in pushes {
        assert!(push["outcome"] == "acked" && push["latency_us"].as_u64() < Some(1_000_000), "{stopped}");
    }
    assert_eq!(told(&fleet.web).await, NOBODY);
    let history = json(&world.operator(&["history", "--limit", "1", "-o", "json"]).await);
    let version = &history["versions"][0];
    assert_eq!(
        (&version["message"], version["changes"].as_array().map(Vec::len)),
        (&"enough".into(), Some(3))
    );
    assert_eq!(version["version"], stopped["version"]);
}

#[tokio::test]
async fn nothing_about_other_documents_is_in_the_way_of_stopping() {
    let world = world().await;
    let web = world.sidecar("payments/web").await.outbound().start().await;
    let entry = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: ledger, namespace: payments}
spec:
  hosts: [ledger.payments]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 8080, name: http, protocol: HTTP}]
  endpoints: [{address: 127.0.0.1, serviceAccount: ledger}]
";
    world.apply(&format!("{entry}---{}", experiment("slow", WEB, "duration: 5m"))).await;
    assert_eq!(told(&web).await, ["payments/slow"]);

    // Now the host is claimed twice, and no other change is taken until somebody has settled that.
    let app = Upstream::start("ledger").await;
    let _ledger = world.sidecar("payments/ledger").await.serve(8080, app.address()).start().await;
    let path = world.write("harmless.yaml", &harmless("p"));
    until("other changes to be refused", || async {
        let refused = world.operator(&["apply", &path]).await;
        if refused.code == Some(2) && refused.stderr.contains("PAL0103") { Ok(()) } else { Err(refused) }
    })
    .await;
    assert!(done(&world.operator(&["fault", "stop", "--all"]).await).starts_with("stopped payments/slow\n"));
    assert_eq!(told(&web).await, NOBODY);
}
