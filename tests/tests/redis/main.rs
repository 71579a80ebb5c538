//! Limits of scope `mesh` with a real redis-server: `cargo test -p palisade-tests --features redis-server --test redis`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "all of this is test code: a surprise must fail the test on the spot"
)]

mod edges;
mod script;
mod store;

use std::time::Duration;

use futures_util::future::join_all;
use http::StatusCode;
use palisade_tests::client::{self, Answer};
use palisade_tests::{Outside, Sidecar, Upstream, World, until};
use serde_json::{Value, json};
use store::Store;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::Instant;

const PALISADE: &str = env!("CARGO_BIN_EXE_palisade-under-test");

/// A limit for each answer to a store that is away, by path.
fn policy(limit: u32) -> String {
    let one = |name: &str| {
        format!(
            "  - {{name: {name}, match: [{{paths: [/{name}]}}], limit: {limit}, window: 1h, scope: mesh, \
             onStoreFailure: {name}}}\n"
        )
    };
    format!(
        "
apiVersion: palisade.mesh/v1
kind: RateLimitPolicy
metadata: {{name: ledger, namespace: payments}}
spec:
  selector: {{matchLabels: {{app: ledger}}}}
  limits:
{}{}{}",
        one("local"),
        one("deny"),
        one("allow")
    )
}

/// Callers take the quicker of two endpoints by themselves, which may be the same one thirty times in a row.
const IN_TURN: &str = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: ledger, namespace: payments}
spec: {host: ledger.payments, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}}
";

/// Two proxies in front of one ledger, and a caller that spreads its requests over both.
struct Fleet {
    _world: World,
    app: Upstream,
    ledgers: [Sidecar; 2],
    web: Sidecar,
}

impl Fleet {
    async fn start(policies: &str, options: &[(&str, &str)]) -> Self {
        let world = World::start(PALISADE).await;
        world.apply(policies).await;
        world.apply(IN_TURN).await;
        let app = Upstream::start("ledger").await;
        let mut ledgers = Vec::new();
        for name in ["ledger-1", "ledger-2"] {
            let mut builder = world.sidecar_named("payments/ledger", name).await.serve(8080, app.address());
            for (name, value) in options {
                builder = builder.arg(name, value);
            }
            ledgers.push(builder.start().await);
        }
        let web = world.sidecar("payments/web").await.outbound().start().await;
        until("both endpoints of the ledger", || async {
            let config: Value = serde_json::from_slice(&web.admin("/config").await.body).unwrap();
            let all = config["configuration"]["destinations"].as_array().cloned().unwrap_or_default();
            let ledger = all.iter().find(|destination| destination["host"] == "ledger.payments");
            if ledger.is_some_and(|ledger| ledger["endpoints"] == 2) { Ok(()) } else { Err(config) }
        })
        .await;
        let ledgers = ledgers.try_into().unwrap();
        Self { _world: world, app, ledgers, web }
    }

    async fn get(&self, path: &str) -> Answer {
        client::get(self.web.http_proxy(), &format!("http://ledger.payments:8080{path}")).await
    }

    /// Statuses of so many requests at once.
    async fn many(&self, path: &str, count: usize) -> Vec<StatusCode> {
        join_all((0..count).map(|_| async { self.get(path).await.status })).await
    }

    /// Waits until every worker has (or has no) connection to the store.
    async fn until_connected(&self, connected: bool) {
        for ledger in &self.ledgers {
            until("the store's state in /config", || async {
                let config: Value = serde_json::from_slice(&ledger.admin("/config").await.body).unwrap();
                let store = config["limit_store"].clone();
                assert_eq!(store["needed"], true);
                let workers = store["workers_connected"].as_u64().unwrap();
                if workers == if connected { 2 } else { 0 } { Ok(()) } else { Err(store) }
            })
            .await;
        }
    }

    /// What each limit does while the store is away.
    async fn assert_away(&self, reasons: &[&str]) {
        self.app.clear();
        let denied = self.get("/deny").await;
        assert_eq!(denied.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(denied.headers["retry-after"], "2");
        assert!(!denied.text().contains("redis") && !denied.text().contains("store"));
        assert!(self.many("/deny", 10).await.iter().all(|status| *status == StatusCode::SERVICE_UNAVAILABLE));
        self.app.assert_untouched();
        assert!(self.many("/allow", 20).await.iter().all(|status| *status == StatusCode::OK));
        let denied = until("records of what was refused", || async {
            let records = self.ledgers.iter().flat_map(Sidecar::records);
            let denied: Vec<_> =
                records.filter(|record| record["reason"] == "limit_store_unavailable").collect();
            if denied.len() >= 11 { Ok(denied) } else { Err(denied.len()) }
        })
        .await;
        for record in &denied {
            assert_eq!(
                (&record["limit"], &record["response_flags"]),
                (&json!("payments/ledger/deny"), &json!("RLSE"))
            );
            assert!(reasons.contains(&record["limit_store"].as_str().unwrap()), "{record}");
        }
    }

    fn passed(statuses: &[StatusCode]) -> usize {
        statuses.iter().filter(|status| **status == StatusCode::OK).count()
    }
}

#[tokio::test]
async fn two_proxies_together_never_pass_more_than_the_limit() {
    let store = Store::start(None).await;
    let options = [("--limit-store", store.url()), ("--limit-store-timeout", "5s".to_owned())];
    let options = options.each_ref().map(|(name, value)| (*name, value.as_str()));
    let fleet = Fleet::start(&policy(20), &options).await;
    fleet.until_connected(true).await;
    fleet.app.clear();
    let statuses = fleet.many("/deny", 100).await;
    assert_eq!(fleet.app.received().len(), 20, "at the application");
    assert_eq!(Fleet::passed(&statuses), 20);
    let refused = statuses.iter().filter(|status| **status == StatusCode::TOO_MANY_REQUESTS).count();
    assert_eq!(refused, 80, "{statuses:?}");
    for ledger in &fleet.ledgers {
        ledger.records_with(1, &[("path", json!("/deny"))]).await;
        assert!(ledger.metric("palisade_limit_store_requests_total", &["outcome=\"ok\""]).await > 0.0);
    }
    let refused = fleet.get("/deny").await;
    assert!(
        (3500..=3600).contains(&refused.headers["retry-after"].to_str().unwrap().parse::<u32>().unwrap())
    );

    // What the store holds says nothing of anybody, and goes by itself.
    let keys = store.ask(&["KEYS", "*/deny:*"]).await;
    assert!(
        keys.starts_with("palisade:test.mesh:payments/ledger/deny:") && keys.lines().count() == 1,
        "{keys}"
    );
    let left: u64 = store.ask(&["PTTL", keys.trim()]).await.trim().parse().unwrap();
    assert!((3_500_000..=3_600_001).contains(&left), "{left}");

    // A store that forgot its scripts is told them again, and no quota comes back.
    assert_eq!(store.ask(&["SCRIPT", "FLUSH"]).await.trim(), "OK");
    assert_eq!(fleet.get("/allow").await.status, StatusCode::OK);
    assert_eq!(fleet.get("/deny").await.status, StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn a_killed_store_leaves_what_the_operator_wrote_and_comes_back() {
    let mut store = Store::start(None).await;
    let fleet =
        Fleet::start(&policy(3), &[("--limit-store", &store.url()), ("--limit-store-timeout", "5s")]).await;
    fleet.until_connected(true).await;
    assert_eq!(Fleet::passed(&fleet.many("/local", 10).await), 3);
    store.kill().await;
    fleet.until_connected(false).await;
    fleet.assert_away(&["closed", "unreachable"]).await;
    // Each proxy counts for itself, and what it passed before is not forgotten: 2 x 3 less the 3 of before.
    let mut passed = 0;
    for _ in 0..30 {
        passed += usize::from(fleet.get("/local").await.status == StatusCode::OK);
    }
    assert_eq!(passed, 3);
    store.run().await;
    fleet.until_connected(true).await;
    assert_eq!(Fleet::passed(&fleet.many("/deny", 10).await), 3, "counted together again");
}

#[tokio::test]
async fn a_stalled_store_costs_a_few_requests_the_timeout_and_the_others_nothing() {
    let store = Store::start(None).await;
    let fleet =
        Fleet::start(&policy(100), &[("--limit-store", &store.url()), ("--limit-store-timeout", "2s")]).await;
    fleet.until_connected(true).await;
    assert_eq!(fleet.get("/deny").await.status, StatusCode::OK);
    store.signal("STOP").await;
    // Two workers of two proxies: each meets it once, at the same time.
    fleet.many("/deny", 40).await;
    fleet.until_connected(false).await;
    let before = Instant::now();
    fleet.assert_away(&["timeout", "closed", "unreachable"]).await;
    assert!(before.elapsed() < Duration::from_secs(2), "{:?}", before.elapsed());
    store.signal("CONT").await;
    fleet.until_connected(true).await;
    assert_eq!(fleet.get("/deny").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_wrong_password_is_a_store_that_is_away_until_the_file_has_the_right_one() {
    let store = Store::start(Some("correct-horse")).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, "wrong\n").unwrap();
    let path = file.display().to_string();
    let options = [
        ("--limit-store", &*store.url()),
        ("--limit-store-password-file", &*path),
        ("--limit-store-timeout", "5s"),
    ];
    let fleet = Fleet::start(&policy(3), &options).await;
    fleet.assert_away(&["credentials", "unreachable"]).await;
    for ledger in &fleet.ledgers {
        let log = ledger.process.log();
        assert!(log.contains("the store of rate limits is away") && !log.contains("wrong\n"), "{log}");
    }
    std::fs::write(&file, "correct-horse\n").unwrap();
    fleet.until_connected(true).await;
    assert_eq!(Fleet::passed(&fleet.many("/deny", 10).await), 3);
}

#[tokio::test]
async fn a_store_that_talks_nonsense_is_away() {
    // Not Redis; Redis that says yes to everything; one that sends without end.
    let forever = "$1000000000\r\n".to_owned() + &"x".repeat(1_000_000);
    for nonsense in ["HTTP/1.1 400 Bad Request\r\n\r\n", "+OK\r\n", "*3\r\n:1\r\n:999999\r\n:1\r\n", &forever]
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://{}", listener.local_addr().unwrap());
        let text = nonsense.to_owned();
        let server = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let text = text.clone();
                tokio::spawn(async move {
                    let mut asked = [0; 16 * 1024];
                    while stream.read(&mut asked).await.is_ok_and(|n| n > 0) {
                        if stream.write_all(text.as_bytes()).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        let fleet = Fleet::start(&policy(3), &[("--limit-store", &url)]).await;
        fleet.until_connected(false).await;
        fleet.assert_away(&["bad_answer", "error_answer", "closed", "timeout", "unreachable"]).await;
        server.abort();
    }
}

#[tokio::test]
async fn a_proxy_that_was_told_of_no_store_says_so_and_does_what_the_policy_says() {
    let fleet = Fleet::start(&policy(3), &[]).await;
    fleet.assert_away(&["not_configured"]).await;
    for ledger in &fleet.ledgers {
        assert!(ledger.process.log().contains("give --limit-store"));
        let config: Value = serde_json::from_slice(&ledger.admin("/config").await.body).unwrap();
        assert_eq!(config["limit_store"]["configured"], false);
    }
}

/// What docs/transfer-limits.md has operators give the proxies' user.
const RIGHTS: &str =
    "reset on >secret ~palisade:* -@all +evalsha +eval +script|load +get +set +time +select +ping";

#[tokio::test]
async fn a_user_with_few_rights_over_tls_is_enough_and_another_server_gets_no_password() {
    let ca = Outside::new("roots of the store");
    let store = Store::start(None).await.with_tls(&ca).await;
    let set = ["ACL", "SETUSER", "palisade"].into_iter().chain(RIGHTS.split(' ')).collect::<Vec<_>>();
    assert_eq!(store.ask(&set).await.trim(), "OK");
    let (url, password) = (store.tls_url() + "/0", store.file("password", "secret"));
    let wrong_ca = store.file("other.pem", &Outside::new("others").root_pem());
    let right_ca = store.file("ca.pem", &ca.root_pem());
    let with_ca = |file: &str| {
        let rows = [
            ("--limit-store", url.as_str()),
            ("--limit-store-user", "palisade"),
            ("--limit-store-password-file", password.as_str()),
            ("--limit-store-ca", file),
            ("--limit-store-timeout", "5s"),
        ];
        rows.map(|(name, value)| (name, value.to_owned()))
    };
    for (file, trusted) in [(wrong_ca, false), (right_ca, true)] {
        let options = with_ca(&file);
        let options = options.each_ref().map(|(name, value)| (*name, value.as_str()));
        let fleet = Fleet::start(&policy(3), &options).await;
        if trusted {
            fleet.until_connected(true).await;
            assert_eq!(Fleet::passed(&fleet.many("/deny", 10).await), 3);
            assert!(store.ask(&["ACL", "LOG"]).await.trim().is_empty(), "something was not allowed");
        } else {
            fleet.assert_away(&["unreachable"]).await;
            let stats = store.ask(&["INFO", "commandstats"]).await;
            assert!(!stats.contains("cmdstat_auth"), "{stats}");
        }
    }
}
