//! Snapshots that cannot be used: refused with a reason, and the last good one stays in force.

use palisade_proto::v1;
use palisade_proto::v1::control_message::Message as Control;
use palisade_proto::v1::proxy_message::Message as Said;
use palisade_tests::world::workload_id;
use palisade_tests::{FakeControlPlane, Sidecar, SidecarBuilder, World, until};
use prost::Message as _;

use crate::PALISADE;
use crate::fleet::config;

const WORKLOAD: &str = "payments/ledger";

fn body(workload: &str) -> v1::SnapshotBody {
    v1::SnapshotBody {
        root_namespace: "palisade-system".into(),
        workload: Some(v1::Workload {
            spiffe_id: workload_id(workload).to_string(),
            labels: [("app".to_owned(), "ledger".to_owned())].into(),
        }),
        mesh: Some((&palisade_policy::kind::MeshConfigSpec::default()).into()),
        ..v1::SnapshotBody::default()
    }
}

fn policy(principal: &str, action: v1::authorization_policy::Action) -> v1::AuthorizationPolicy {
    let source =
        v1::authorization_policy::Source { principals: vec![principal.to_owned()], ..Default::default() };
    v1::AuthorizationPolicy {
        meta: Some(v1::Meta { namespace: "payments".into(), name: "p".into(), ..v1::Meta::default() }),
        action: action.into(),
        rules: vec![v1::authorization_policy::Rule { from: vec![source], ..Default::default() }],
        ..v1::AuthorizationPolicy::default()
    }
}

fn snapshot(version: u64, body: Vec<u8>) -> v1::Snapshot {
    v1::Snapshot { version, digest: sha256(&body), body: body.into() }
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    // A certificate's fingerprint is SHA-256 of its bytes, and any bytes do.
    palisade_certs::bundle::sha256(&rustls_pki_types::CertificateDer::from(bytes)).to_vec()
}

async fn acked(fake: &FakeControlPlane, version: u64) {
    fake.heard("an ack", |said| matches!(said, Said::Ack(ack) if ack.version == version).then_some(())).await;
}

async fn sidecar(fake: &FakeControlPlane, world: &World) -> Sidecar {
    let builder = SidecarBuilder::new(PALISADE.as_ref(), world.folder(), "ledger")
        .arg("--control-plane", &fake.address().to_string())
        .arg("--join-token", &fake.join_token())
        .arg("--state-dir", &world.folder().join("ledger.state").display().to_string());
    builder.outbound().spawn().await
}

#[tokio::test]
async fn what_cannot_be_used_is_refused_with_a_reason_and_the_last_good_one_stays() {
    use v1::authorization_policy::Action;
    let (fake, world) = (FakeControlPlane::start(WORKLOAD).await, World::of_files(PALISADE));
    let sidecar = sidecar(&fake, &world).await;
    fake.send(Control::Snapshot(snapshot(1, body(WORKLOAD).encode_to_vec())));
    sidecar.ready().await;
    acked(&fake, 1).await;
    let good = config(&sidecar).await["configuration"].clone();

    let with = |policy| {
        let mut body = body(WORKLOAD);
        body.authorization_policies.push(policy);
        body.encode_to_vec()
    };
    let mut from_nowhere = policy("*", Action::Allow);
    from_nowhere.rules[0].from[0].ip_blocks.push("10.0.0.0/99".to_owned());
    let mut wrong_digest = snapshot(5, with(policy("*", Action::Deny)));
    wrong_digest.digest[0] ^= 1;
    let rows = [
        ("an address block that is none", snapshot(2, with(from_nowhere))),
        ("no action", snapshot(3, with(policy("*", Action::Unspecified)))),
        ("not protobuf", snapshot(4, b"\xff\xff\xff\xff not a message".to_vec())),
        ("another digest", wrong_digest),
        ("another workload", snapshot(6, body("payments/web").encode_to_vec())),
        ("nothing", snapshot(7, v1::SnapshotBody::default().encode_to_vec())),
        ("an unknown body", v1::Snapshot { version: 8, digest: vec![7; 32], body: Vec::new().into() }),
    ];
    for (name, snapshot) in rows {
        let version = snapshot.version;
        fake.send(Control::Snapshot(snapshot));
        let findings = fake
            .heard(name, |said| match said {
                Said::Nack(nack) if nack.version == version => Some(nack.findings.clone()),
                Said::Ack(ack) => (ack.version == version).then(|| panic!("{name} was taken")),
                _ => None,
            })
            .await;
        assert!(findings.iter().any(|finding| !finding.message.is_empty()), "{name}: {findings:?}");
        assert_eq!(config(&sidecar).await["configuration"], good, "{name}");
    }
    sidecar.ready().await;
    assert!(sidecar.metric("palisade_config_rejected_total", &[]).await >= 7.0);

    // And a good one after all of them is taken.
    fake.send(Control::Snapshot(snapshot(9, with(policy("*", Action::Allow)))));
    acked(&fake, 9).await;
    let log = sidecar.process.log();
    assert!(!log.contains("panicked"), "{log}");
}

#[tokio::test]
async fn before_the_first_good_snapshot_nothing_passes() {
    let (fake, world) = (FakeControlPlane::start(WORKLOAD).await, World::of_files(PALISADE));
    let sidecar = sidecar(&fake, &world).await;
    fake.send(Control::Snapshot(snapshot(1, b"\xff".to_vec())));
    fake.heard("a nack", |said| matches!(said, Said::Nack(_)).then_some(())).await;
    let ready = sidecar.admin("/ready").await;
    assert_eq!(ready.status, http::StatusCode::SERVICE_UNAVAILABLE);
    assert!(ready.text().contains("configuration"), "{}", ready.text());
    let out = palisade_tests::client::get(sidecar.http_proxy(), "http://ledger.payments:8080/").await;
    assert_eq!(out.status, http::StatusCode::SERVICE_UNAVAILABLE);
    fake.send(Control::Snapshot(snapshot(2, body(WORKLOAD).encode_to_vec())));
    sidecar.ready().await;
}

#[tokio::test]
async fn damaged_state_is_moved_aside_and_asked_for_again() {
    let (fake, world) = (FakeControlPlane::start(WORKLOAD).await, World::of_files(PALISADE));
    let mut running = sidecar(&fake, &world).await;
    fake.send(Control::Snapshot(snapshot(1, body(WORKLOAD).encode_to_vec())));
    running.ready().await;
    let state = world.folder().join("ledger.state");
    let names = ["member.json", "snapshot.bin"];
    until("the state to be kept", || async {
        names.iter().all(|name| state.join(name).exists()).then_some(()).ok_or("not yet")
    })
    .await;
    for name in names {
        for damage in ["half", "rubbish", "empty"] {
            let path = state.join(name);
            let whole = std::fs::read(&path).unwrap();
            let bytes = match damage {
                "half" => whole[..whole.len() / 2].to_vec(),
                "rubbish" => vec![0xff; 100],
                _ => Vec::new(),
            };
            running.process.kill().await;
            std::fs::write(&path, bytes).unwrap();
            running = running.restart().await;
            running.ready().await;
            let log = running.process.log();
            assert!(log.contains("moved aside") && log.contains(name), "{name} {damage}: {log}");
            assert!(!log.contains("panicked"), "{log}");
            let prefix = format!("{name}.damaged-");
            let aside = std::fs::read_dir(&state)
                .unwrap()
                .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with(&prefix));
            assert!(aside.count() > 0, "{name} {damage}");
            until("the state to be whole again", || async {
                let now = std::fs::read(&path).unwrap_or_default().len();
                if now > whole.len() / 2 + 1 { Ok(()) } else { Err(now) }
            })
            .await;
        }
    }
}
