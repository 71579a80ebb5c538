//! Membership: attest, renew, follow the stream.

use std::path::Path;
use std::time::Duration;

use palisade_proto::v1;
use palisade_proto::v1::control_message::Message as Control;
use palisade_proto::v1::proxy_message::Message as Said;
use palisade_proxy::settings::{JoinTokenSource, Source};
use tempfile::TempDir;
use tonic::Code;

use crate::plane::{Plane, snapshot};
use crate::support::{LEDGER, Running, TestCa, id, settings, until};

pub fn source(plane: &Plane, token: Option<String>, state_dir: Option<&Path>) -> Source {
    Source::ControlPlane {
        address: plane.address.to_string(),
        join_token: token.map(JoinTokenSource::Text),
        state_dir: state_dir.map(Into::into),
        advertise: None,
    }
}

pub fn start(plane: &Plane, folder: &TempDir) -> Running {
    Running::start(settings(source(plane, Some(plane.token()), None), folder.path()))
}

async fn serial(proxy: &Running) -> String {
    proxy.json("/certs").await["identity"]["serial"].to_string()
}

fn is_ready(said: &Said) -> bool {
    matches!(said, Said::Readiness(v1::Readiness { ready: true, .. }))
}

#[tokio::test]
async fn attests_says_hello_applies_the_snapshot_acks_and_is_ready() {
    let (plane, folder) = (Plane::start().await, TempDir::new().unwrap());
    let proxy = start(&plane, &folder);
    proxy.until_ready().await;
    let page = proxy.json("/certs").await;
    assert_eq!(page["identity"]["id"], LEDGER);
    plane.until_heard("readiness", is_ready).await;
    let ack = plane.until_heard("an ack", |said| matches!(said, Said::Ack(_))).await;
    assert!(matches!(ack, Said::Ack(ack) if ack.version == 1 && ack.digest.len() == 32));
    let hello = plane.heard(|heard| heard.hellos[0].clone());
    assert_eq!((hello.serves[0].number, hello.serves[0].name.as_str()), (8080, "http"));
    assert!(hello.serves[0].address.starts_with("127.0.0.1:") && !hello.serves[0].address.ends_with(":0"));
    assert_eq!(proxy.json("/ready").await["control_plane"], "connected");
    proxy.stop().await.unwrap();
    plane.until_heard("draining", |said| matches!(said, Said::Draining(_))).await;
}

#[tokio::test]
async fn a_refused_token_ends_the_process_before_the_first_certificate() {
    for code in [Code::PermissionDenied, Code::Unauthenticated, Code::InvalidArgument] {
        let (plane, folder) = (Plane::start().await, TempDir::new().unwrap());
        plane.script(|script| script.refuse_attest = Some(code));
        let error = start(&plane, &folder).end().await.unwrap_err();
        assert_eq!(error.exit_code(), 1);
        assert!(error.to_string().contains("palisade token create"), "{error}");
        assert_eq!(plane.heard(|heard| heard.attests), 1);
    }
}

#[tokio::test]
async fn a_failure_of_the_control_plane_is_tried_again() {
    let (plane, folder) = (Plane::start().await, TempDir::new().unwrap());
    plane.script(|script| script.refuse_attest = Some(Code::Unavailable));
    let proxy = start(&plane, &folder);
    until("a second attempt", || async { plane.heard(|heard| heard.attests >= 2).then_some(()) }).await;
    assert_eq!(proxy.page("/ready").await.0, 503);
    plane.script(|script| script.refuse_attest = None);
    proxy.until_ready().await;
    proxy.stop().await.unwrap();
}

#[tokio::test]
async fn never_shows_the_token_to_a_server_with_another_root_or_identity() {
    let (plane, folder) = (Plane::start().await, TempDir::new().unwrap());
    let token = plane.token_with_root([7; 32]);
    let proxy = Running::start(settings(source(&plane, Some(token), None), folder.path()));
    until("a failure", || async {
        (proxy.metric("palisade_certificate_renewal_failures_total").await >= Some(1)).then_some(())
    })
    .await;
    assert_eq!(plane.heard(|heard| heard.attests), 0);
    proxy.stop().await.unwrap();

    let folder = TempDir::new().unwrap();
    let plane = Plane::start_as(TestCa::new("corp.example"), &id(LEDGER)).await;
    let proxy = start(&plane, &folder);
    until("a failure", || async {
        (proxy.metric("palisade_certificate_renewal_failures_total").await >= Some(1)).then_some(())
    })
    .await;
    assert_eq!(plane.heard(|heard| heard.attests), 0);
    proxy.stop().await.unwrap();
}

#[tokio::test]
async fn keeps_trying_while_the_control_plane_cannot_be_reached_and_is_not_ready() {
    let (plane, folder) = (Plane::start().await, TempDir::new().unwrap());
    let token = plane.token();
    let settings = settings(source(&plane, Some(token), None), folder.path());
    let (address, state) = plane.stop().await;
    let proxy = Running::start(settings);
    until("a failure", || async {
        (proxy.metric("palisade_certificate_renewal_failures_total").await >= Some(1)).then_some(())
    })
    .await;
    let ready = proxy.json("/ready").await;
    assert_eq!(ready["missing"], serde_json::json!(["certificate", "configuration"]));
    assert_eq!(ready["control_plane"], "disconnected");
    let _plane = Plane::again(address, state).await;
    proxy.until_ready().await;
    proxy.stop().await.unwrap();
}

#[tokio::test]
async fn renews_when_told_and_connects_again_with_the_new_certificate() {
    let (plane, folder) = (Plane::start().await, TempDir::new().unwrap());
    let proxy = start(&plane, &folder);
    proxy.until_ready().await;
    let first = serial(&proxy).await;
    proxy.refresh.notify_one();
    until("a new certificate", || async { (serial(&proxy).await != first).then_some(()) }).await;
    until("a second hello", || async { plane.heard(|heard| heard.hellos.len() == 2).then_some(()) }).await;
    let digest = plane.heard(|heard| heard.hellos[1].digest.len());
    assert_eq!(digest, 32, "it says what it has");
    assert_eq!(proxy.page("/ready").await.0, 200);
    assert_eq!(plane.heard(|heard| (heard.attests, heard.renews)), (1, 1));
    proxy.stop().await.unwrap();
}

#[tokio::test]
async fn keeps_the_old_certificate_when_renewal_fails_then_refuses_and_attests_anew() {
    let (plane, folder) = (Plane::start().await, TempDir::new().unwrap());
    plane.script(|script| {
        script.ttl = Duration::from_secs(3);
        script.refuse_renew = Some(Code::Unavailable);
    });
    let proxy = start(&plane, &folder);
    proxy.until_ready().await;
    let first = serial(&proxy).await;
    until("a failed renewal", || async { plane.heard(|heard| heard.renews >= 1).then_some(()) }).await;
    assert_eq!(serial(&proxy).await, first);
    // What was a first start's end is none now.
    plane.script(|script| script.refuse_attest = Some(Code::PermissionDenied));
    until("expiry", || async { proxy.json("/certs").await["identity"].is_null().then_some(()) }).await;
    until("a refused attestation", || async { plane.heard(|heard| heard.attests >= 2).then_some(()) }).await;
    assert_eq!(proxy.page("/ready").await.0, 503);
    plane.script(|script| {
        script.refuse_attest = None;
        script.ttl = Duration::from_hours(1);
    });
    proxy.until_ready().await;
    proxy.stop().await.unwrap();
}

#[tokio::test]
async fn a_control_plane_that_forgot_us_does_not_take_our_certificate_away() {
    let (plane, folder) = (Plane::start().await, TempDir::new().unwrap());
    let proxy = start(&plane, &folder);
    proxy.until_ready().await;
    plane.script(|script| {
        script.refuse_stream = Some(Code::PermissionDenied);
        script.refuse_attest = Some(Code::PermissionDenied);
    });
    plane.hang_up();
    until("attempts to attest anew", || async { plane.heard(|heard| heard.attests >= 2).then_some(()) })
        .await;
    assert_eq!(proxy.page("/ready").await.0, 200);
    plane.script(|script| {
        script.refuse_stream = None;
        script.refuse_attest = None;
    });
    until("the stream", || async {
        (proxy.json("/ready").await["control_plane"] == "connected").then_some(())
    })
    .await;
    proxy.stop().await.unwrap();
}

#[tokio::test]
async fn refuses_a_certificate_for_another_workload_later_on() {
    let (plane, folder) = (Plane::start().await, TempDir::new().unwrap());
    let proxy = start(&plane, &folder);
    proxy.until_ready().await;
    let first = serial(&proxy).await;
    plane.script(|script| script.subject = id("spiffe://corp.example/ns/payments/sa/other"));
    proxy.refresh.notify_one();
    until("a failure", || async {
        (proxy.metric("palisade_certificate_renewal_failures_total").await >= Some(1)).then_some(())
    })
    .await;
    assert_eq!(serial(&proxy).await, first);
    proxy.stop().await.unwrap();
}

#[tokio::test]
async fn nacks_what_it_cannot_use_and_keeps_the_last_good_snapshot() {
    let (plane, folder) = (Plane::start().await, TempDir::new().unwrap());
    let proxy = start(&plane, &folder);
    proxy.until_ready().await;

    let Control::Snapshot(good) = snapshot(2, LEDGER) else { panic!() };
    let damaged = v1::Snapshot { digest: vec![9; 32], ..good.clone() };
    let cut = v1::Snapshot { digest: vec![9; 3], ..good.clone() };
    let nonsense = nonsense(2);
    let other = snapshot(2, "spiffe://corp.example/ns/payments/sa/other");
    for (n, bad) in
        [Control::Snapshot(damaged), Control::Snapshot(cut), nonsense, other].into_iter().enumerate()
    {
        plane.push(bad).await;
        until("a nack", || async {
            let nacks = plane.heard(|heard| heard.said.iter().filter(|s| matches!(s, Said::Nack(_))).count());
            (nacks == n + 1).then_some(())
        })
        .await;
        assert_eq!(proxy.metric("palisade_config_version").await, Some(1));
        assert_eq!(proxy.page("/ready").await.0, 200);
    }
    assert_eq!(proxy.metric("palisade_config_rejected_total").await, Some(4));
    let nack = plane.until_heard("a nack", |said| matches!(said, Said::Nack(_))).await;
    assert!(matches!(nack, Said::Nack(nack) if !nack.findings[0].message.is_empty()));

    plane.push(Control::Snapshot(good)).await;
    until("version 2", || async { (proxy.metric("palisade_config_version").await == Some(2)).then_some(()) })
        .await;
    proxy.stop().await.unwrap();
}

fn nonsense(version: u64) -> Control {
    let body = vec![0xff; 64];
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &body).as_ref().to_vec();
    Control::Snapshot(v1::Snapshot { version, digest, body: body.into() })
}

#[tokio::test]
async fn an_empty_body_means_the_same_again() {
    let (plane, folder) = (Plane::start().await, TempDir::new().unwrap());
    let proxy = start(&plane, &folder);
    proxy.until_ready().await;
    let Control::Snapshot(mut same) = snapshot(5, LEDGER) else { panic!() };
    same.body = Default::default();
    plane.push(Control::Snapshot(same)).await;
    plane.until_heard("an ack of 5", |said| matches!(said, Said::Ack(ack) if ack.version == 5)).await;
    assert_eq!(proxy.metric("palisade_config_version").await, Some(5));
    proxy.stop().await.unwrap();
}

#[tokio::test]
async fn without_a_snapshot_it_is_not_ready_however_long_the_stream_is_silent() {
    let (plane, folder) = (Plane::start().await, TempDir::new().unwrap());
    plane.script(|script| script.greeting.clear());
    let proxy = start(&plane, &folder);
    until("the stream", || async {
        (proxy.json("/ready").await["control_plane"] == "connected").then_some(())
    })
    .await;
    assert_eq!(proxy.json("/ready").await["missing"], serde_json::json!(["configuration"]));
    assert!(proxy.json("/config").await["configuration"].is_null());
    plane.push(snapshot(1, LEDGER)).await;
    proxy.until_ready().await;
    proxy.stop().await.unwrap();
}

#[tokio::test]
async fn comes_back_after_the_stream_broke_and_stays_ready_meanwhile() {
    let (plane, folder) = (Plane::start().await, TempDir::new().unwrap());
    let proxy = start(&plane, &folder);
    proxy.until_ready().await;
    let (address, state) = plane.stop().await;
    until("disconnection", || async {
        (proxy.json("/ready").await["control_plane"] == "disconnected").then_some(())
    })
    .await;
    assert_eq!(proxy.page("/ready").await.0, 200);
    let plane = Plane::again(address, state).await;
    until("a second hello", || async { plane.heard(|heard| heard.hellos.len() >= 2).then_some(()) }).await;
    proxy.stop().await.unwrap();
}

#[tokio::test]
async fn takes_new_roots_and_refuses_those_that_would_lock_it_out() {
    let (plane, folder) = (Plane::start().await, TempDir::new().unwrap());
    let proxy = start(&plane, &folder);
    proxy.until_ready().await;
    let next = TestCa::new("corp.example");
    let roots = |proxy: serde_json::Value| proxy["identity"]["roots_sha256"].as_array().unwrap().len();
    let bundle = |domain: &str, cas: &[&TestCa]| {
        let roots_der = cas.iter().map(|ca| ca.root.certificate().to_vec()).collect();
        Control::Bundle(v1::TrustBundle { trust_domain: domain.into(), roots_der })
    };
    plane.push(bundle("corp.example", &[&next])).await;
    plane.push(bundle("other.example", &[plane.ca(), &next])).await;
    plane.push(snapshot(7, LEDGER)).await;
    plane.until_heard("an ack of 7", |said| matches!(said, Said::Ack(ack) if ack.version == 7)).await;
    assert_eq!(roots(proxy.json("/certs").await), 1);
    until("the stream to settle", || async {
        (proxy.json("/ready").await["control_plane"] == "connected").then_some(())
    })
    .await;
    until("two roots", || async {
        plane.try_push(bundle("corp.example", &[plane.ca(), &next])).await;
        (roots(proxy.json("/certs").await) == 2).then_some(())
    })
    .await;
    assert_eq!(proxy.page("/ready").await.0, 200);
    proxy.stop().await.unwrap();
}

#[tokio::test]
async fn an_evicted_proxy_serves_no_more_and_does_not_come_back() {
    let (plane, folder) = (Plane::start().await, TempDir::new().unwrap());
    let state = folder.path().join("state");
    let proxy = Running::start(settings(source(&plane, Some(plane.token()), Some(&state)), folder.path()));
    proxy.until_ready().await;
    assert!(state.join("member.json").exists());
    plane.push(Control::Evicted(v1::Evicted { reason: "stolen".into() })).await;
    until("eviction", || async {
        proxy.json("/ready").await["missing"].to_string().contains("evicted").then_some(())
    })
    .await;
    assert!(proxy.json("/certs").await["identity"].is_null());
    assert!(proxy.json("/config").await["configuration"].is_null());
    until("nothing kept", || async { (!state.join("member.json").exists()).then_some(()) }).await;
    proxy.refresh.notify_one();
    assert_eq!(plane.heard(|heard| (heard.hellos.len(), heard.renews)), (1, 0));
    proxy.stop().await.unwrap();
}

#[tokio::test]
async fn refuses_to_start_without_identity_and_token() {
    let (plane, folder) = (Plane::start().await, TempDir::new().unwrap());
    let error = Running::start(settings(source(&plane, None, None), folder.path())).end().await.unwrap_err();
    assert_eq!(error.exit_code(), 2);
    let cut = plane.token()[..100].to_owned();
    let error = Running::start(settings(source(&plane, Some(cut.clone()), None), folder.path())).end().await;
    let error = error.unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("join token") && !error.to_string().contains(&cut), "{error}");
}

#[tokio::test]
async fn a_drain_withdraws_first_and_a_second_stop_ends_it_at_once() {
    let (plane, folder) = (Plane::start().await, TempDir::new().unwrap());
    let mut told = settings(source(&plane, Some(plane.token()), None), folder.path());
    told.drain.withdraw_delay = Duration::from_mins(5);
    let proxy = Running::start(told);
    proxy.until_ready().await;
    proxy.order_stop().await;
    plane.until_heard("draining", |said| matches!(said, Said::Draining(_))).await;
    assert!(proxy.json("/ready").await["missing"].to_string().contains("draining"));
    assert!(!proxy.json("/certs").await["identity"].is_null(), "it still takes calls");
    proxy.stop().await.unwrap();
}
