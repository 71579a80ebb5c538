//! The data directory: of one trust domain, for one user, and without secrets that it need not keep.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use palisade_tests::World;
use palisade_tests::process::Finished;
use palisade_tests::world::TRUST_DOMAIN;

use crate::PALISADE;
use crate::fleet::assert_refused;

/// A control plane that is expected to refuse to start.
async fn start(world: &World, data: &Path, trust_domain: &str) -> Finished {
    let data = data.display().to_string();
    let args = ["control-plane", "--data-dir", &data, "--trust-domain", trust_domain];
    world.palisade(&[&args[..], &["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]].concat()).await
}

#[tokio::test]
async fn the_secret_of_a_join_token_is_nowhere_in_the_data_directory() {
    let world = World::start(PALISADE).await;
    let token = world.token("payments/ledger", &[]).await;
    let secret = token.split('.').nth(3).unwrap().as_bytes().to_vec();
    let folder = world.data_dir();
    let mut paths = vec![folder.clone()];
    let mut files = 0;
    while let Some(path) = paths.pop() {
        if path.is_dir() {
            paths.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            files += 1;
            let bytes = fs::read(&path).unwrap();
            assert!(!bytes.windows(secret.len()).any(|part| part == secret), "{}", path.display());
        }
    }
    assert!(files > 3, "{folder:?} holds {files} files");
    assert!(!world.control_plane.as_ref().unwrap().log().contains(token.split('.').nth(3).unwrap()));
}

#[tokio::test]
async fn a_directory_of_another_trust_domain_or_open_to_others_is_refused() {
    let mut world = World::start(PALISADE).await;
    world.kill_control_plane().await;
    let done = start(&world, &world.data_dir(), "other.mesh").await;
    assert_refused(&done, 1, &["other.mesh", TRUST_DOMAIN]);
    fs::set_permissions(world.data_dir(), fs::Permissions::from_mode(0o755)).unwrap();
    let done = start(&world, &world.data_dir(), TRUST_DOMAIN).await;
    assert_refused(&done, 1, &["755", "chmod"]);
    fs::set_permissions(world.data_dir(), fs::Permissions::from_mode(0o700)).unwrap();
    world.start_control_plane().await;
}
