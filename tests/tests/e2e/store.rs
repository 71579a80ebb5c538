//! The control plane's directory: made once, found again, and never opened when it is not whole.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use palisade_tests::World;

use crate::PALISADE;
use crate::kit::ALLOW_MESH;

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        }
        found.push(path);
    }
    found
}

#[tokio::test]
async fn a_second_start_finds_ca_operator_policies_and_tokens_of_the_first() {
    let mut world = World::start(PALISADE).await;
    world.apply(ALLOW_MESH).await;
    let token = world.token("payments/web", &[]).await;
    let (roots, operator) = (world.mesh_bundle(), world.operator_svid().serial);
    world.kill_control_plane().await;
    world.start_control_plane().await;
    assert_eq!((world.mesh_bundle(), world.operator_svid().serial), (roots, operator));
    let got = world.operator(&["get", "AuthorizationPolicy", "-o", "yaml"]).await;
    assert!(got.code == Some(0) && got.stdout.contains("allow-mesh"), "{got:?}");
    let svid = world.attest(&token).await.unwrap();
    svid.verify(&world.mesh_bundle(), std::time::SystemTime::now()).unwrap();
}

#[tokio::test]
async fn nobody_else_can_read_the_directory() {
    let world = World::start(PALISADE).await;
    for path in files(&world.data_dir()).into_iter().chain([world.data_dir()]) {
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        let expected = if path.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode & !expected, 0, "{}: {mode:o}", path.display());
    }
}

/// Starts a control plane that must end by itself, and gives what it said.
async fn fails_to_start(world: &World) -> String {
    let args = world.control_plane_args();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = world.palisade(&args).await;
    let said = format!("{}{}", done.stdout, done.stderr);
    assert!(matches!(done.code, Some(1 | 2)), "{done:?}");
    assert!(!said.contains("panicked") && !said.contains("RUST_BACKTRACE"), "{said}");
    said
}

#[tokio::test]
async fn a_store_cut_in_half_is_refused_with_its_path() {
    let mut world = World::start(PALISADE).await;
    world.apply(ALLOW_MESH).await;
    world.kill_control_plane().await;
    let store = files(&world.data_dir()).into_iter().find(|path| path.ends_with("store.sqlite3")).unwrap();
    for file in files(&world.data_dir()) {
        if file.to_string_lossy().ends_with("-wal") || file.to_string_lossy().ends_with("-shm") {
            fs::remove_file(file).unwrap();
        }
    }
    let whole = fs::read(&store).unwrap();
    for (what, bytes) in [("half", &whole[..whole.len() / 2]), ("rubbish", b"no database at all".as_slice())]
    {
        fs::write(&store, bytes).unwrap();
        let said = fails_to_start(&world).await;
        assert!(said.contains("store.sqlite3"), "{what}: {said}");
    }
    // An emptied or missing store would be a mesh without policies: also refused, the CA is still there.
    fs::write(&store, b"").unwrap();
    fails_to_start(&world).await;
    fs::remove_file(&store).unwrap();
    fails_to_start(&world).await;
}

#[tokio::test]
async fn a_damaged_ca_is_refused_and_not_made_anew() {
    let mut world = World::start(PALISADE).await;
    world.kill_control_plane().await;
    let pems: Vec<_> = files(&world.data_dir())
        .into_iter()
        .filter(|path| {
            path.is_file() && fs::read_to_string(path).is_ok_and(|text| text.contains("PRIVATE KEY"))
        })
        .filter(|path| !path.to_string_lossy().contains("operator"))
        .collect();
    assert!(!pems.is_empty());
    for path in pems {
        let whole = fs::read(&path).unwrap();
        for bytes in [&whole[..whole.len() / 2], b"".as_slice()] {
            fs::write(&path, bytes).unwrap();
            let said = fails_to_start(&world).await;
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            assert!(said.contains(&name), "{name}: {said}");
        }
        // Moved away and back, so that it keeps its mode.
        let aside = path.with_extension("aside");
        fs::rename(&path, &aside).unwrap();
        fails_to_start(&world).await;
        fs::rename(&aside, &path).unwrap();
        fs::write(&path, whole).unwrap();
    }
    world.start_control_plane().await;
}

#[tokio::test]
async fn a_directory_in_use_and_a_port_in_use_are_named() {
    let world = World::start(PALISADE).await;
    let said = fails_to_start(&world).await;
    assert!(said.contains("in use"), "{said}");
    let other = World::of_files(PALISADE);
    let (data, listen) = (other.data_dir().display().to_string(), world.address().to_string());
    let args = ["control-plane", "--data-dir", &data, "--trust-domain", "test.mesh", "--listen", &listen];
    let done = other.palisade(&args).await;
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.stderr.contains(&listen) && done.stderr.contains("in use"), "{done:?}");
}
