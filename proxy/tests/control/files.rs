//! File mode.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use palisade_proxy::settings::Source;
use tempfile::TempDir;

use crate::support::{LEDGER, Running, TestCa, id, settings, until};

const ALLOW_GET: &str = "\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: readers, namespace: payments}
spec:
  action: ALLOW
  rules: [{to: [{operation: {methods: [GET]}}]}]
";

fn lay_out(ca: &TestCa) -> TempDir {
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("policies")).unwrap();
    fs::write(folder.path().join("policies/readers.yaml"), ALLOW_GET).unwrap();
    fs::write(folder.path().join("roots.pem"), ca.bundle().to_pem()).unwrap();
    write_svid(folder.path(), ca, LEDGER, Duration::from_hours(1));
    folder
}

fn write_svid(folder: &Path, ca: &TestCa, name: &str, ttl: Duration) {
    let (chain, key) = ca.pem(&id(name), ttl);
    fs::write(folder.join("svid.pem"), chain).unwrap();
    fs::write(folder.join("key.pem"), key).unwrap();
}

fn start(folder: &Path) -> Running {
    let source = Source::Files {
        policies: folder.join("policies"),
        svid: folder.join("svid.pem"),
        key: folder.join("key.pem"),
        roots: folder.join("roots.pem"),
        labels: BTreeMap::from([("tier".into(), "1".into())]),
        reload_interval: Duration::from_millis(100),
    };
    Running::start(settings(source, folder))
}

async fn faults(folder: &Path) -> String {
    let error = start(folder).end().await.unwrap_err();
    assert_eq!(error.exit_code(), 2);
    error.to_string()
}

#[tokio::test]
async fn is_ready_with_good_files_and_stops_when_told() {
    let folder = lay_out(&TestCa::new("corp.example"));
    let proxy = start(folder.path());
    proxy.until_ready().await;
    let config = proxy.json("/config").await;
    assert_eq!(config["configuration"]["version"], 1);
    assert_eq!(config["configuration"]["labels"]["app"], "ledger");
    assert_eq!(config["configuration"]["labels"]["tier"], "1");
    assert_eq!(config["configuration"]["policies"][0], "AuthorizationPolicy payments/readers");
    assert_eq!(config["control_plane"], "none");
    let certificates = proxy.page("/certs").await.1;
    assert!(certificates.contains(LEDGER) && !certificates.contains("PRIVATE"), "{certificates}");
    assert!(proxy.metric("palisade_certificate_outage_budget_seconds").await.unwrap() > 3000);
    assert_eq!(proxy.page("/nothing").await.0, 404);
    proxy.stop().await.unwrap();
}

#[tokio::test]
async fn reports_every_fault_at_start_together() {
    let folder = lay_out(&TestCa::new("corp.example"));
    let (_, other_key) = TestCa::new("corp.example").pem(&id(LEDGER), Duration::from_hours(1));
    fs::write(folder.path().join("key.pem"), other_key).unwrap();
    fs::write(folder.path().join("policies/typo.yaml"), ALLOW_GET.replace("rules", "rulez")).unwrap();
    let text = faults(folder.path()).await;
    assert!(text.contains("key.pem: the private key does not belong"), "{text}");
    assert!(text.contains("typo.yaml:6:"), "{text}");
}

#[tokio::test]
async fn refuses_unusable_certificates_at_start() {
    let ca = TestCa::new("corp.example");
    let folder = lay_out(&ca);
    fs::write(folder.path().join("roots.pem"), TestCa::new("corp.example").bundle().to_pem()).unwrap();
    assert!(faults(folder.path()).await.contains("no root of the trust bundle"));

    let folder = lay_out(&ca);
    write_svid(folder.path(), &ca, "spiffe://corp.example/operator/alice", Duration::from_hours(1));
    assert!(faults(folder.path()).await.contains("no workload's id"));

    let folder = lay_out(&ca);
    fs::write(folder.path().join("svid.pem"), "-----BEGIN CERTIFICATE-----\nAAAA\n").unwrap();
    assert!(faults(folder.path()).await.contains("svid.pem"));

    let folder = lay_out(&ca);
    fs::remove_file(folder.path().join("roots.pem")).unwrap();
    assert!(faults(folder.path()).await.contains("cannot be read"));
}

#[tokio::test]
async fn reloads_policies_and_keeps_the_last_good_ones() {
    let folder = lay_out(&TestCa::new("corp.example"));
    let proxy = start(folder.path());
    proxy.until_ready().await;
    let policy = folder.path().join("policies/readers.yaml");

    fs::write(&policy, ALLOW_GET.replace("GET", "POST")).unwrap();
    until("version 2", || async { (proxy.metric("palisade_config_version").await == Some(2)).then_some(()) })
        .await;

    fs::write(&policy, ALLOW_GET.replace("rules", "rulez")).unwrap();
    until("a reload failure", || async {
        (proxy.metric("palisade_config_reload_failures_total").await == Some(1)).then_some(())
    })
    .await;
    assert_eq!(proxy.json("/config").await["configuration"]["version"], 2);
    assert_eq!(proxy.page("/ready").await.0, 200);

    fs::remove_dir_all(folder.path().join("policies")).unwrap();
    until("another failure", || async {
        (proxy.metric("palisade_config_reload_failures_total").await == Some(2)).then_some(())
    })
    .await;
    assert_eq!(proxy.page("/ready").await.0, 200);
    proxy.stop().await.unwrap();
}

#[tokio::test]
async fn an_emptied_policies_directory_opens_nothing() {
    let folder = lay_out(&TestCa::new("corp.example"));
    let proxy = start(folder.path());
    proxy.until_ready().await;
    let policy = folder.path().join("policies/readers.yaml");
    let failures = async |count| {
        until("a reload failure", || async {
            (proxy.metric("palisade_config_reload_failures_total").await == Some(count)).then_some(())
        })
        .await;
        let policies = &proxy.json("/config").await["configuration"]["policies"];
        assert_eq!(policies[0], "AuthorizationPolicy payments/readers");
    };

    fs::write(&policy, "\n").unwrap();
    failures(1).await;
    fs::remove_file(&policy).unwrap();
    failures(2).await;
    proxy.stop().await.unwrap();

    assert!(faults(folder.path()).await.contains("holds no *.yaml"));
}

#[tokio::test]
async fn reloads_the_certificate_and_keeps_the_old_one_when_the_new_one_is_wrong() {
    let ca = TestCa::new("corp.example");
    let folder = lay_out(&ca);
    let proxy = start(folder.path());
    proxy.until_ready().await;
    let first = proxy.json("/certs").await["identity"]["serial"].clone();

    // Another workload's, whole and valid.
    write_svid(folder.path(), &ca, "spiffe://corp.example/ns/payments/sa/other", Duration::from_hours(1));
    proxy.refresh.notify_one();
    until("a failure", || async {
        (proxy.metric("palisade_certificate_renewal_failures_total").await >= Some(1)).then_some(())
    })
    .await;
    assert_eq!(proxy.json("/certs").await["identity"]["serial"], first);

    write_svid(folder.path(), &ca, LEDGER, Duration::from_hours(1));
    until("the new certificate", || async {
        (proxy.json("/certs").await["identity"]["serial"] != first).then_some(())
    })
    .await;
    assert_eq!(proxy.page("/ready").await.0, 200);
    proxy.stop().await.unwrap();
}

#[tokio::test]
async fn is_not_ready_once_the_certificate_expired() {
    let ca = TestCa::new("corp.example");
    let folder = lay_out(&ca);
    write_svid(folder.path(), &ca, LEDGER, Duration::from_secs(2));
    let proxy = start(folder.path());
    proxy.until_ready().await;
    until("expiry", || async {
        let missing = proxy.json("/ready").await["missing"].to_string();
        missing.contains("certificate").then_some(())
    })
    .await;
    until("removal", || async { proxy.json("/certs").await["identity"].is_null().then_some(()) }).await;
    write_svid(folder.path(), &ca, LEDGER, Duration::from_hours(1));
    proxy.until_ready().await;
    proxy.stop().await.unwrap();
}

#[cfg(unix)]
#[tokio::test]
async fn follows_links_inside_the_directory_and_refuses_those_that_lead_out() {
    let folder = lay_out(&TestCa::new("corp.example"));
    let policies = folder.path().join("policies");
    fs::create_dir(policies.join("..data")).unwrap();
    fs::rename(policies.join("readers.yaml"), policies.join("..data/readers.yaml")).unwrap();
    std::os::unix::fs::symlink("..data/readers.yaml", policies.join("readers.yaml")).unwrap();
    let proxy = start(folder.path());
    proxy.until_ready().await;
    proxy.stop().await.unwrap();

    fs::write(folder.path().join("outside.yaml"), ALLOW_GET).unwrap();
    std::os::unix::fs::symlink("../outside.yaml", policies.join("outside.yaml")).unwrap();
    assert!(faults(folder.path()).await.contains("leads out"));
}
