use std::error::Error;
use std::fs;

use palisade_control_plane::StartError;
use palisade_proto::v1;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::world::{World, addresses, allow};

#[tokio::test(flavor = "multi_thread")]
async fn a_second_start_finds_everything() {
    let world = World::new().await;
    world.apply(&allow("one", "ledger", "payments")).await;
    let token = world.token("ledger", 1).await;
    let member = world.join("audit").await;
    let (bundle, operator) = (world.bundle(), world.operator_svid().serial);

    let world = world.restart().await;
    assert_eq!(world.bundle(), bundle);
    assert_eq!(world.operator_svid().serial, operator);
    let got = world.admin().await.get(v1::GetRequest::default()).await.unwrap().into_inner();
    assert_eq!((got.version, got.objects.len()), (1, 1));
    world.attest(&token).await.unwrap();
    member.renew(&world).await.unwrap();
    assert_eq!(world.apply(&allow("two", "ledger", "payments")).await.version, 2);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_outlive_a_restart() {
    let world = World::new().await;
    let (ledger, payments) = (world.join("ledger").await, world.join("payments").await);
    let mut proxy = ledger.stream(&world, &[(8080, "127.0.0.1:4001")]).await;
    proxy.ready(true).await;
    let mut caller = payments.stream(&world, &[]).await;
    caller.until(|b| addresses(b, "ledger").len() == 1).await;

    let world = world.restart().await;
    let mut caller = payments.stream(&world, &[]).await;
    let (_, body) = caller.snapshot().await;
    assert_eq!(addresses(&body, "ledger"), ["127.0.0.1:4001"]);
    world.stop().await;
}

async fn start_fails(dir: tempfile::TempDir) -> (StartError, String, tempfile::TempDir) {
    let kept = tempfile::tempdir().unwrap();
    fs::rename(dir.path().join("data"), kept.path().join("data")).unwrap();
    let path = kept.path().to_owned();
    let error = World::again(kept).await.err().expect("it started");
    let text = format!("{error}: {}", error.source().map(ToString::to_string).unwrap_or_default());
    assert!(text.contains(path.to_str().unwrap()), "says where: {text}");
    (error, text, dir)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_cut_in_half_is_refused() {
    let dir = World::new().await.stop().await;
    let store = dir.path().join("data/store.sqlite3");
    let whole = fs::read(&store).unwrap();
    fs::write(&store, &whole[..whole.len() / 2]).unwrap();
    let (error, text, _dir) = start_fails(dir).await;
    assert!(matches!(error, StartError::Store(_)) && text.contains("damaged"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_store_is_no_empty_store() {
    for file in ["store.sqlite3", "ca/root.crt"] {
        let dir = World::new().await.stop().await;
        fs::remove_file(dir.path().join("data").join(file)).unwrap();
        let (_, text, _dir) = start_fails(dir).await;
        assert!(text.contains("is missing"), "{text}");
    }
    let dir = World::new().await.stop().await;
    fs::remove_file(dir.path().join("data/store.sqlite3")).unwrap();
    fs::remove_file(dir.path().join("data/palisade.json")).unwrap();
    let (_, text, _dir) = start_fails(dir).await;
    assert!(text.contains("is missing"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_named() {
    let world = World::new().await;
    let dir = tempfile::tempdir().unwrap();
    let domain = crate::world::domain();
    let mut settings = palisade_control_plane::Settings::new(dir.path().join("data"), domain);
    settings.listen = world.ready.listen;
    settings.admin = "127.0.0.1:0".parse().unwrap();
    let error = palisade_control_plane::run(settings, std::future::pending()).await.unwrap_err();
    assert!(error.to_string().contains(&world.ready.listen.to_string()), "{error}");

    let domain = crate::world::domain();
    let mut settings = palisade_control_plane::Settings::new(dir.path().join("data"), domain);
    settings.admin = "0.0.0.0:0".parse().unwrap();
    let error = palisade_control_plane::run(settings, std::future::pending()).await.unwrap_err();
    assert!(matches!(error, StartError::AdminNotLoopback(_)), "{error}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_control_planes_never_share_a_directory() {
    let world = World::new().await;
    let domain = crate::world::domain();
    let mut settings = palisade_control_plane::Settings::new(world.data_dir.clone(), domain);
    settings.listen = "127.0.0.1:0".parse().unwrap();
    settings.admin = "127.0.0.1:0".parse().unwrap();
    let error = palisade_control_plane::run(settings, std::future::pending()).await.unwrap_err();
    assert!(error.source().unwrap().to_string().contains("in use by another"), "{error}");
    world.stop().await;
}

async fn get(world: &World, path: &str) -> String {
    let mut tcp = TcpStream::connect(world.ready.admin).await.unwrap();
    tcp.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    tcp.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn the_probes_answer_and_count() {
    let world = World::new().await;
    world.join("ledger").await;
    assert!(get(&world, "/live").await.starts_with("HTTP/1.1 200"));
    assert!(get(&world, "/ready").await.starts_with("HTTP/1.1 200"));
    assert!(get(&world, "/metrics").await.contains("\npalisade_control_plane_attestations_total 1\n"));
    assert!(get(&world, "/debug").await.starts_with("HTTP/1.1 404"));
    world.stop().await;
}
