//! `palisade schema` as operators and editors use it.

#![allow(clippy::unwrap_used, reason = "test code")]

mod support;

use palisade_policy::schema::Subject;
use serde_json::Value;
use support::{check, palisade, stdout};

fn kinds() -> Vec<&'static str> {
    let mut kinds: Vec<&str> = Subject::all().map(Subject::name).collect();
    kinds.sort_unstable();
    kinds
}

#[test]
fn one_kind_in_any_case_or_all_are_printed() {
    let folder = tempfile::tempdir().unwrap();
    let print = |words: &[&str]| -> Value {
        let output = palisade(folder.path(), words);
        assert!(output.status.success(), "{words:?}");
        serde_json::from_str(&stdout(&output)).unwrap()
    };
    let one = print(&["schema", "meshconfig"]);
    assert_eq!(one["properties"]["kind"]["const"], "MeshConfig");
    assert_eq!(one["$schema"], "https://json-schema.org/draft/2020-12/schema");
    let all = print(&["schema"]);
    let named = |name: &str| all["$defs"][name]["properties"]["kind"]["const"] == name;
    assert!(kinds().into_iter().all(named), "{all}");
    check(folder.path(), &["schema", "Pod"], 2, &["no kind of this name", "PolicyTest"]);
}

#[test]
fn files_are_written_for_each_kind_and_for_all_and_written_again() {
    let folder = tempfile::tempdir().unwrap();
    let names = || {
        let entries = std::fs::read_dir(folder.path().join("schemas")).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    };
    check(folder.path(), &["schema", "Gateway", "--out", "schemas"], 0, &["wrote schemas/Gateway.json"]);
    assert_eq!(names(), ["Gateway.json"]);
    std::fs::write(folder.path().join("schemas/Gateway.json"), "old").unwrap();
    check(folder.path(), &["schema", "--out", "schemas"], 0, &["wrote schemas/palisade.json"]);
    let expected: Vec<String> = kinds().iter().map(|kind| format!("{kind}.json")).collect();
    assert_eq!(names(), [expected, vec!["palisade.json".into()]].concat());
    for name in names() {
        let text = std::fs::read_to_string(folder.path().join("schemas").join(&name)).unwrap();
        let schema: Value = serde_json::from_str(&text).unwrap();
        assert!(schema["title"].is_string(), "{name}");
    }
    std::fs::write(folder.path().join("file"), "").unwrap();
    check(folder.path(), &["schema", "--out", "file"], 1, &["cannot make directory file"]);
}
