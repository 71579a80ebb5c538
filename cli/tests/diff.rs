//! `palisade diff` as an operator and as CI see it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "all of this is test code")]

mod support;

use std::fs;
use std::path::Path;

use support::{check, documented, palisade, root, stdout};

/// Where the commands of this file are documented.
const PAGE: &str = "docs/policy-tests.md";

/// The examples in `old`, and in `new` with the change of docs/policy-tests.md.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (set, is_new) in [("old", false), ("new", true)] {
        for part in ["init", "fintech"] {
            let to = folder.path().join(set).join(part);
            fs::create_dir_all(&to).unwrap();
            for entry in fs::read_dir(root().join("examples").join(part)).unwrap() {
                let path = entry.unwrap().path();
                if path.extension().is_none_or(|ending| ending != "yaml") {
                    continue;
                }
                let text = fs::read_to_string(&path).unwrap();
                let text = match is_new && path.ends_with("ledger.yaml") {
                    true => text
                        .replace("\"GET\", \"POST\"", "\"GET\", \"POST\", \"DELETE\"")
                        .replace("/balances/*", "/balances/7"),
                    false => text,
                };
                fs::write(to.join(path.file_name().unwrap()), text).unwrap();
            }
        }
    }
    folder
}

fn record(id: &str, caller: &str, method: &str, path: &str, reason: &str) -> String {
    let decision = if reason == "rule" { "allowed" } else { "denied" };
    let caller = format!("spiffe://corp.example/ns/fintech/sa/{caller}");
    let more = serde_json::json!({
        "decision": decision, "reason": reason, "source_principal": caller, "method": method, "path": path,
    });
    support::record(id, more)
}

const RECORDS: [[&str; 5]; 4] = [
    ["0193-3", "payments", "POST", "/entries", "rule"],
    ["0193-4", "payments", "GET", "/entries", "rule"],
    ["0193-5", "accounts", "GET", "/balances/1000", "rule"],
    ["0193-6", "notifications", "GET", "/entries", "no_allow_matched"],
];

fn write_records(folder: &Path) {
    let lines = RECORDS.map(|[id, caller, method, path, reason]| record(id, caller, method, path, reason));
    fs::write(folder.join("decisions.jsonl"), lines.join("\n")).unwrap();
}

#[test]
fn the_page_shows_what_is_printed() {
    let folder = folder();
    write_records(folder.path());
    let output = palisade(folder.path(), &["diff", "old", "new", "--log", "decisions.jsonl"]);
    let shown = documented(PAGE, "palisade diff old new --log decisions.jsonl", "```");
    assert_eq!(stdout(&output), shown);
    assert_eq!(output.status.code(), Some(0));
    let output = palisade(folder.path(), &["suggest", "--log", "decisions.jsonl"]);
    assert_eq!(stdout(&output), documented(PAGE, "cat suggested.yaml", "```"));
    let noted = documented(PAGE, "palisade suggest --log decisions.jsonl > suggested.yaml", "$ ");
    assert_eq!(String::from_utf8(output.stderr).unwrap(), noted);
    assert_eq!(palisade(folder.path(), &["suggest", "--log", "none"]).status.code(), Some(2));
}

#[test]
fn exit_codes_tell_the_same_changed_and_wrong_apart() {
    let folder = folder();
    fs::write(folder.path().join("empty.jsonl"), "\n").unwrap();
    fs::write(
        folder.path().join("cut.jsonl"),
        record("1", "accounts", "GET", "/balances/1", "rule") + "\n{\"ti",
    )
    .unwrap();
    fs::write(folder.path().join("bad.yaml"), "kind: Pod\n").unwrap();
    let rows: &[(&[&str], i32, &str)] = &[
        (&["old", "old", "--check"], 0, "nobody gains or loses access"),
        (&["old", "new", "--check"], 1, "1 caller gains access, 1 caller loses access"),
        (&["old", "old", "--check", "--log", "cut.jsonl"], 0, "1 line is no decision record: cut.jsonl:2"),
        (&["new", "new", "--log", "cut.jsonl"], 0, "1 were made under other policies than OLD"),
        (&["old", "new", "--log", "empty.jsonl"], 2, "empty.jsonl has no decision record"),
        (&["old", "new", "--log", "none.jsonl"], 2, "cannot read none.jsonl"),
        (&["old", "bad.yaml"], 2, "there is no kind \"Pod\""),
        (&["old"], 2, "<NEW>"),
    ];
    for (words, code, part) in rows {
        check(folder.path(), &[&["diff"], *words].concat(), *code, &[part]);
    }
}

#[test]
fn machines_get_the_same_as_data() {
    let output = palisade(folder().path(), &["diff", "old", "new", "-o", "json"]);
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let gain = &told["difference"]["changes"][0];
    assert_eq!((&gain["service"], &gain["gains"]), (&"fintech/ledger".into(), &true.into()));
    assert_eq!(
        (&gain["callers"][0], &gain["requests"][0]),
        (&"fintech/payments".into(), &"DELETE /entries".into())
    );
    assert!(told["replay"].is_null());
}
