//! The program as operators and CI run it.
#![allow(dead_code, clippy::unwrap_used, reason = "test code; each test file uses a part of it")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

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

/// Runs it: it ends with this code, and says each of the parts on stdout or stderr.
#[track_caller]
pub(crate) fn check(folder: &Path, words: &[&str], code: i32, parts: &[&str]) {
    let output = palisade(folder, words);
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert_eq!(output.status.code(), Some(code), "{words:?}: {said}");
    for part in parts {
        assert!(said.contains(part), "{words:?} should say {part:?}: {said}");
    }
}

/// What a page shows below a command, up to `end`.
pub(crate) fn documented(page: &str, command: &str, end: &str) -> String {
    let page = std::fs::read_to_string(root().join(page)).unwrap();
    let (_, rest) = page.split_once(&format!("$ {command}\n")).unwrap();
    rest.split_once(end).unwrap().0.to_owned()
}
