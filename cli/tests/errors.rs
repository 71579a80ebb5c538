//! What an operator sees when something is wrong: one message, an exit code, no panic.

#![allow(clippy::unwrap_used, reason = "all of this is test code")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn palisade(folder: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_palisade"));
    for (name, _) in std::env::vars() {
        if name.starts_with("PALISADE_") {
            command.env_remove(name);
        }
    }
    command.current_dir(folder).args(words).stdin(Stdio::null()).env("RUST_BACKTRACE", "1").output().unwrap()
}

fn check(folder: &Path, words: &[&str], code: i32, part: &str) {
    let output = palisade(folder, words);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{words:?}: {stderr}");
    assert!(stderr.contains(part), "{words:?}: {stderr}");
    assert!(!stderr.contains("panicked") && !stderr.contains("backtrace"), "{words:?}: {stderr}");
}

#[test]
fn bad_input_is_told_apart_from_failures() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::write(path.join("bad.yaml"), "kind: Pod\nmetadata: {name: a, namespace: b}\n").unwrap();
    fs::write(path.join("broken.yaml"), "a: [\n").unwrap();
    fs::write(path.join("latin1.yaml"), b"a: \xe9\n").unwrap();
    fs::create_dir(path.join("empty")).unwrap();
    let operator = ["--server", "127.0.0.1:1", "--operator-dir", "none"];
    let rows: &[(&[&str], i32, &str)] = &[
        (&["lint", "bad.yaml"], 2, "bad.yaml:1:7"),
        (&["lint", "broken.yaml"], 2, "broken.yaml:"),
        (&["lint", "latin1.yaml"], 2, "cannot read latin1.yaml"),
        (&["lint", "nosuch.yaml"], 2, "cannot read nosuch.yaml; name a file"),
        (&["lint", "empty"], 2, "no .yaml or .yml file in empty"),
        (&["--log-level", "a=b=c", "lint", "bad.yaml"], 2, "is no filter"),
        (&["wait", "--admin", "127.0.0.1:1", "--timeout", "200ms"], 1, "is not ready after 200ms"),
        (&[&["get"], &operator[..]].concat(), 2, "cannot read none/operator.crt"),
        (&[&["apply", "bad.yaml"], &operator[..]].concat(), 2, "cannot read none/operator.crt"),
        (&["proxy", "--control-plane", "127.0.0.1:1", "--admin", "127.0.0.1:0"], 2, "nothing to do"),
        (&["proxy", "--control-plane", "mesh", "--serve", "80"], 2, "is no address"),
        (&["control-plane", "--data-dir", "d", "--trust-domain", "a", "--svid-ttl", "1s"], 2, "--svid-ttl"),
    ];
    for (words, code, part) in rows {
        check(path, words, *code, part);
    }
}

#[test]
fn init_writes_documents_that_lint_accepts_and_overwrites_nothing() {
    let folder = tempfile::tempdir().unwrap();
    check(folder.path(), &["init", "policies"], 0, "");
    check(folder.path(), &["lint", "policies"], 0, "");
    fs::write(folder.path().join("policies/default-deny.yaml"), "mine").unwrap();
    check(folder.path(), &["init", "policies"], 2, "mesh.yaml exists and is not overwritten");
    let kept = fs::read_to_string(folder.path().join("policies/default-deny.yaml")).unwrap();
    assert_eq!(kept, "mine");
}

#[test]
fn lint_speaks_json_to_machines() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("bad.yaml"), "kind: Pod\nmetadata: {name: a, namespace: b}\n").unwrap();
    let output = palisade(folder.path(), &["lint", "-o", "json", "bad.yaml"]);
    assert_eq!(output.status.code(), Some(2));
    let findings: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&findings[0]["file"], &findings[0]["line"]), (&"bad.yaml".into(), &1.into()));
}
