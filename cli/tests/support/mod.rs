//! The program as operators and CI run it.
#![allow(dead_code, clippy::unwrap_used, reason = "test code; each test file uses a part of it")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

/// Of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// The program in a folder, without what the environment of the tests would set.
pub(crate) fn command(folder: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_palisade"));
    for (name, _) in std::env::vars_os() {
        if name == "COLUMNS" || name.to_string_lossy().starts_with("PALISADE_") {
            command.env_remove(name);
        }
    }
    command.current_dir(folder).args(words).stdin(Stdio::null());
    command
}

pub(crate) fn palisade(folder: &Path, words: &[&str]) -> Output {
    command(folder, words).output().unwrap()
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Runs it: it ends with this code, and says each of the parts on stdout or stderr. Returns all that it says.
#[track_caller]
pub(crate) fn check(folder: &Path, words: &[&str], code: i32, parts: &[&str]) -> String {
    let output = palisade(folder, words);
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert_eq!(output.status.code(), Some(code), "{words:?}: {said}");
    for part in parts {
        assert!(said.contains(part), "{words:?} should say {part:?}: {said}");
    }
    said
}

/// What a page shows below a command, up to `end`.
pub(crate) fn documented(page: &str, command: &str, end: &str) -> String {
    let page = std::fs::read_to_string(root().join(page)).unwrap();
    let (_, rest) = page.split_once(&format!("$ {command}\n")).unwrap();
    rest.split_once(end).unwrap().0.to_owned()
}

/// A decision record: a refusal of the ledger's sidecar, with other values for some keys.
pub(crate) fn record(id: &str, more: Value) -> String {
    let mut line = json!({
        "time": "2026-11-30T05:00:00.000Z", "decision_id": id, "direction": "inbound", "decision": "denied",
        "reason": "no_allow_matched", "source_principal": "spiffe://corp.example/ns/fintech/sa/payments",
        "destination_principal": "spiffe://corp.example/ns/fintech/sa/ledger", "request_principal": null,
        "source_address": "10.0.0.7:4000", "method": "DELETE", "authority": "ledger.fintech:8080", "path": "/entries",
        "policy": null, "rule": null, "policy_version": 3, "upstream_cluster": "inbound|8080||",
    });
    line.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    line.to_string()
}
