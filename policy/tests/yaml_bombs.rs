//! Texts that are small and would become large, or deep: refused with their place, in bounded time and memory.

use palisade_policy::document::limits::{DEPTH_MAX, FILE_BYTES_MAX, FINDINGS_MAX, NODES_MAX};
use palisade_policy::document::{SourceFile, parse};
use palisade_policy::finding::code;

/// The last finding's code and line.
#[track_caller]
fn refused(text: String) -> (&'static str, usize) {
    let (objects, findings) = parse(&[SourceFile { name: "bomb.yaml".into(), text }]);
    assert!(objects.is_empty(), "{objects:?}");
    let last = findings.0.last();
    last.map(|f| (f.code, f.position.as_ref().map_or(0, |p| p.line))).unwrap_or_default()
}

#[test]
fn a_bomb_of_aliases_ends_at_its_first_anchor() {
    let mut text = String::from("a: &a [x, x, x, x, x, x, x, x, x]\n");
    for (name, before) in ["b", "c", "d", "e", "f", "g"].iter().zip(["a", "b", "c", "d", "e", "f"]) {
        text.push_str(&format!("{name}: &{name} [{}]\n", vec![format!("*{before}"); 9].join(", ")));
    }
    assert_eq!(refused(text), (code::YAML_FEATURE, 1));
    assert_eq!(refused("kind: *nothing\n".into()), (code::SYNTAX, 1));
    assert_eq!(refused("kind: !!binary aGk=\n".into()), (code::YAML_FEATURE, 1));
}

#[test]
fn what_is_nested_deeper_than_the_limit_is_refused() {
    assert_eq!(refused(format!("a:\n  {}", "[".repeat(DEPTH_MAX + 1))), (code::TOO_LARGE, 2));
    assert_eq!(refused(format!("a: {}", "{b: ".repeat(100_000))), (code::TOO_LARGE, 1));
}

#[test]
fn more_values_or_bytes_than_the_limits_are_refused() {
    let values = format!("a: [{}]", "1,".repeat(NODES_MAX + 1));
    assert_eq!(refused(values), (code::TOO_LARGE, 1));
    assert_eq!(refused("#".repeat(FILE_BYTES_MAX + 1)), (code::TOO_LARGE, 1));
}

#[test]
fn findings_have_a_bound_across_files() {
    let bad = SourceFile { name: "bad.yaml".into(), text: "kind: Pod\n---\n".repeat(FINDINGS_MAX) };
    let (_, findings) = parse(&[bad.clone(), bad.clone(), bad]);
    assert_eq!(findings.0.last().map(|f| f.code), Some(code::TOO_LARGE));
}
