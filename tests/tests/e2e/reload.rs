//! Files that change under traffic: policies, certificates, roots. Nothing is lost.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use http::StatusCode;
use palisade_certs::{Svid, TrustBundle};
use palisade_tests::client;
use palisade_tests::wait::until;
use palisade_tests::world::{Pki, expecting};
use serde_json::json;

use crate::kit::{ALLOW_MESH, DENY_ALL, HTTP1, Mesh, get, url};

/// Requests without pause until told to stop; counts those that did not end well.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    workers: Vec<tokio::task::JoinHandle<Vec<String>>>,
}

impl Load {
    pub(crate) fn start(proxy: std::net::SocketAddr, workers: usize) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let workers = (0..workers).map(|_| tokio::spawn(call(proxy, stop.clone(), done.clone()))).collect();
        Self { stop, done, workers }
    }

    /// Waits until this many more requests have been answered.
    pub(crate) async fn more(&self, count: usize) {
        let goal = self.done.load(Ordering::Relaxed) + count;
        until("requests under load", || async {
            let done = self.done.load(Ordering::Relaxed);
            if done >= goal { Ok(()) } else { Err(done) }
        })
        .await;
    }

    /// Stops and gives what went wrong, and how many were answered.
    pub(crate) async fn stop(self) -> (Vec<String>, usize) {
        self.stop.store(true, Ordering::Relaxed);
        let mut failures = Vec::new();
        for worker in self.workers {
            failures.extend(worker.await.unwrap());
        }
        (failures, self.done.load(Ordering::Relaxed))
    }
}

async fn call(proxy: std::net::SocketAddr, stop: Arc<AtomicBool>, done: Arc<AtomicUsize>) -> Vec<String> {
    let mut failures = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let answer = client::post(proxy, &url("/echo"), "load").await;
        if answer.status != StatusCode::OK || answer.text() != "load" {
            failures.push(format!("{} {}", answer.status, answer.text()));
        }
        done.fetch_add(1, Ordering::Relaxed);
    }
    failures
}

#[tokio::test]
async fn certificates_are_exchanged_under_load_without_a_failed_request() {
    let mesh = Mesh::open().await;
    let caller = mesh.caller().await;
    let load = Load::start(caller.http_proxy(), 4);
    load.more(20).await;
    for round in 0..5 {
        mesh.world.write_svid("payments/ledger", Duration::from_secs(3600));
        mesh.world.write_svid("payments/web", Duration::from_secs(3600));
        load.more(30).await;
        until("the caller's new certificate at the service", || async {
            let seen = certificates_seen(&mesh);
            if seen >= round + 2 { Ok(()) } else { Err(seen) }
        })
        .await;
    }
    let (failures, done) = load.stop().await;
    assert!(failures.is_empty(), "{} of {done} failed: {:?}", failures.len(), failures.first());
}

/// How many different certificates of callers the service was told of.
fn certificates_seen(mesh: &Mesh) -> usize {
    let received = mesh.app.received();
    let hashes: BTreeSet<_> = received
        .iter()
        .filter_map(|one| {
            let value = one.headers.get("x-forwarded-client-cert")?.to_str().ok()?;
            value.split(';').find(|part| part.starts_with("Hash=")).map(str::to_owned)
        })
        .collect();
    hashes.len()
}

#[tokio::test]
async fn a_policy_that_changes_holds_for_the_next_request_on_an_open_connection() {
    let mesh = Mesh::open().await;
    let stream = mesh.connect("payments/web", HTTP1).await;
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(connection);
    let answer = sender.send_request(get("/")).await.unwrap();
    assert_eq!(client::read(answer).await.unwrap().status, StatusCode::OK);
    mesh.world.policy("policies.yaml", DENY_ALL);
    for expected in [StatusCode::FORBIDDEN, StatusCode::OK] {
        let mut seen = Vec::new();
        let end = tokio::time::Instant::now() + palisade_tests::DEADLINE;
        loop {
            let answer = sender.send_request(get("/")).await.unwrap();
            seen.push(client::read(answer).await.unwrap().status);
            if seen.last() == Some(&expected) {
                break;
            }
            assert!(tokio::time::Instant::now() < end, "never {expected}: {seen:?}");
        }
        mesh.world.policy("policies.yaml", ALLOW_MESH);
    }
}

#[tokio::test]
async fn a_broken_policy_is_reported_and_the_last_good_one_kept() {
    let mesh = Mesh::start(DENY_ALL).await;
    assert_eq!(mesh.call("payments/web", get("/")).await.status, StatusCode::FORBIDDEN);
    for broken in [
        "kind: AuthorizationPolicie\n",
        "spec: [",
        "",
        "\u{0}",
        &DENY_ALL.replace("spec: {}", "spec: {rulez: []}"),
    ] {
        // An empty file is no broken one, but here it stands beside one that is.
        mesh.world.policy("zz-broken.yaml", &format!("{broken}\n---\napiVersion: x/v1\nkind: Nonsense\n"));
        mesh.world.policy("policies.yaml", ALLOW_MESH);
        until("the broken file to be reported", || async {
            let log = mesh.sidecar.process.log();
            if log.contains("zz-broken.yaml") { Ok(()) } else { Err(log) }
        })
        .await;
        assert_eq!(mesh.call("payments/web", get("/")).await.status, StatusCode::FORBIDDEN, "{broken:?}");
    }
    mesh.app.assert_untouched();
    std::fs::remove_file(mesh.world.folder().join("policies/zz-broken.yaml")).unwrap();
    until("the good policy", || async {
        let status = mesh.call("payments/web", get("/")).await.status;
        if status == StatusCode::OK { Ok(()) } else { Err(status) }
    })
    .await;
}

#[tokio::test]
async fn an_expired_certificate_is_not_used_and_the_proxy_says_it_is_not_ready() {
    let mesh = Mesh::open().await;
    let builder = mesh.world.file_sidecar("payments/short").outbound();
    mesh.world.write_svid("payments/short", Duration::from_secs(2));
    mesh.publish();
    let caller = builder.start().await;
    assert_eq!(client::get(caller.http_proxy(), &url("/")).await.status, StatusCode::OK);
    until("the certificate to expire", || async {
        let answer = caller.admin("/ready").await;
        if answer.status == StatusCode::SERVICE_UNAVAILABLE { Ok(()) } else { Err(answer.text()) }
    })
    .await;
    mesh.app.clear();
    let answer = client::get(caller.http_proxy(), &url("/")).await;
    assert!(answer.status.is_server_error(), "{}", answer.status);
    mesh.app.assert_untouched();
    caller.records_with(1, &[("decision", json!("failed"))]).await;
    mesh.world.write_svid("payments/short", Duration::from_secs(3600));
    caller.ready().await;
    assert_eq!(client::get(caller.http_proxy(), &url("/")).await.status, StatusCode::OK);
}

/// A root that is taken out of the bundle ends its callers' access, resumed sessions or not.
#[tokio::test]
async fn callers_of_a_root_that_was_removed_are_refused() {
    let mesh = Mesh::open().await;
    assert_eq!(mesh.call("payments/web", get("/")).await.status, StatusCode::OK);
    let next = Pki::new();
    let (chain, key) = next.issue_pem("payments/ledger", Duration::from_secs(3600));
    let old = mesh.world.pki.bundle.to_pem();
    // Both roots, then the new certificate, then the new root alone: as an operator would.
    mesh.world.write("roots.pem", &format!("{old}{}", next.bundle.to_pem()));
    let connect = |svid: Svid, trusted: TrustBundle| {
        let address = mesh.inbound();
        async move {
            let expected = expecting("payments/ledger");
            let stream = client::connect_tls(address, Some(&svid), &trusted, expected, HTTP1).await;
            let answer = client::send_on(stream.map_err(drop)?, get("/")).await;
            answer.map(|answer| answer.status).map_err(drop)
        }
    };
    until("callers of both roots", || async {
        let known = connect(next.svid("payments/web"), mesh.world.pki.bundle.clone()).await;
        if known == Ok(StatusCode::OK) { Ok(()) } else { Err(known) }
    })
    .await;
    mesh.world.write("payments-ledger.crt", &chain);
    mesh.world.write("payments-ledger.key", &key);
    until("the new certificate", || async {
        let both = connect(next.svid("payments/web"), next.bundle.clone()).await;
        if both == Ok(StatusCode::OK) { Ok(()) } else { Err(both) }
    })
    .await;
    mesh.world.write("roots.pem", &next.bundle.to_pem());
    until("the old root to be forgotten", || async {
        let old = connect(mesh.world.pki.svid("payments/web"), next.bundle.clone()).await;
        if old.is_err() { Ok(()) } else { Err(old) }
    })
    .await;
    assert_eq!(connect(next.svid("payments/web"), next.bundle.clone()).await, Ok(StatusCode::OK));
}
