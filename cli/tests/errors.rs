//! What an operator sees when something is wrong: one message, an exit code, no panic.

#![allow(clippy::unwrap_used, reason = "all of this is test code")]

mod support;

use std::fs;
use std::path::Path;
use std::process::Output;

fn palisade(folder: &Path, words: &[&str]) -> Output {
    support::command(folder, words).env("RUST_BACKTRACE", "1").output().unwrap()
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
    fs::create_dir(path.join("loop")).unwrap();
    std::os::unix::fs::symlink("..", path.join("loop/back")).unwrap();
    let operator = ["--server", "127.0.0.1:1", "--operator-dir", "none"];
    let rows: &[(&[&str], i32, &str)] = &[
        (&["lint", "bad.yaml"], 2, "bad.yaml:1:7"),
        (&["lint", "broken.yaml"], 2, "broken.yaml:"),
        (&["lint", "latin1.yaml"], 2, "cannot read latin1.yaml; save it as UTF-8 text"),
        (&["lint", "loop"], 2, "loop/back is a link to a directory that it stands in; take it out"),
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

/// A rule that lint warns of, one that it only points at, and an annotation.
fn write_warnings(folder: &Path) {
    let document = |name: &str, annotation: &str, spec: &str| {
        format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}, namespace: bank, \
             annotations: {{{annotation}}}}}\nspec: {spec}\n"
        )
    };
    let wide = "{rules: [{to: [{operation: {paths: ['/info*']}}]}]}";
    let note = "{action: DENY, rules: [{to: [{operation: {paths: ['/admin']}}]}]}";
    let accepted = "palisade.mesh/lint-ignore: 'PAL3104: all of it is public'";
    fs::write(folder.join("warning.yaml"), document("w", "", wide)).unwrap();
    fs::write(folder.join("note.yaml"), document("n", "", note)).unwrap();
    fs::write(folder.join("accepted.yaml"), document("a", accepted, wide)).unwrap();
}

#[test]
fn warnings_fail_only_when_asked_to_and_notes_never() {
    let folder = tempfile::tempdir().unwrap();
    write_warnings(folder.path());
    let rows: &[(&[&str], i32, &str)] = &[
        (&["lint", "warning.yaml"], 0, "0 errors, 1 warning"),
        (&["lint", "--deny-warnings", "warning.yaml"], 2, "warning[PAL3104]"),
        (&["lint", "--deny-warnings", "-o", "json", "warning.yaml"], 2, ""),
        (&["lint", "--deny-warnings", "note.yaml"], 0, "0 errors, 0 warnings, 1 note"),
        (&["lint", "--deny-warnings", "accepted.yaml"], 0, ""),
    ];
    for (words, code, part) in rows {
        check(folder.path(), words, *code, part);
    }
    let accepted = palisade(folder.path(), &["lint", "accepted.yaml"]);
    let said = String::from_utf8(accepted.stdout).unwrap();
    assert_eq!(said, "1 document in 1 file: no errors, 1 ignored\n");
}

#[test]
fn lint_always_says_the_same_in_the_same_words() {
    let folder = tempfile::tempdir().unwrap();
    write_warnings(folder.path());
    let output = palisade(folder.path(), &["lint", "note.yaml", "warning.yaml"]);
    let expected = "note[PAL3107]: \"/admin\" is compared with case: \"/ADMIN\" is not denied
  --> note.yaml:4:57
   |
 4 | spec: {action: DENY, rules: [{to: [{operation: {paths: ['/admin']}}]}]}
   |                                                         ^
   = at: spec.rules[0].to[0].operation.paths[0] of AuthorizationPolicy bank/n
   = help: if the service ignores case, allow what is meant instead of denying what is not

warning[PAL3104]: \"/info*\" also takes \"/information\"
  --> warning.yaml:4:43
   |
 4 | spec: {rules: [{to: [{operation: {paths: ['/info*']}}]}]}
   |                                           ^
   = at: spec.rules[0].to[0].operation.paths[0] of AuthorizationPolicy bank/w
   = help: write \"/info\" and \"/info/*\"

0 errors, 1 warning, 1 note
";
    assert_eq!(String::from_utf8(output.stderr).unwrap(), expected);
    for format in ["json", "sarif"] {
        let said = || palisade(folder.path(), &["lint", "-o", format, "note.yaml", "warning.yaml"]).stdout;
        assert_eq!(said(), said(), "{format}");
    }
}

#[test]
fn lint_speaks_sarif_to_code_hosts() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("policies")).unwrap();
    write_warnings(&folder.path().join("policies"));
    let bad = "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: b}\n";
    fs::write(folder.path().join("policies/bad.yaml"), bad).unwrap();
    let results = |words: &[&str]| {
        let output = palisade(folder.path(), words);
        let log: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let list = |r: &serde_json::Value| {
            let place = &r["locations"][0]["physicalLocation"]["artifactLocation"]["uri"];
            let suppressed = r["suppressions"][0]["justification"].as_str().unwrap_or_default();
            format!("{} {} {} {suppressed}", r["ruleId"], r["level"], place)
                .replace('"', "")
                .trim_end()
                .to_owned()
        };
        let found: Vec<String> = log["runs"][0]["results"].as_array().unwrap().iter().map(list).collect();
        (output.status.code(), found)
    };
    let accepted = "PAL3104 warning policies/accepted.yaml all of it is public";
    assert_eq!(
        results(&["lint", "-o", "sarif", "policies/note.yaml", "policies/accepted.yaml"]),
        (Some(0), vec!["PAL3107 note policies/note.yaml".into(), accepted.into()])
    );
    // What malformed documents lead to is not asked.
    assert_eq!(
        results(&["lint", "-o", "sarif", "policies"]),
        (Some(2), vec!["PAL0006 error policies/bad.yaml".into()])
    );
}
