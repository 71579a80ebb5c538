//! `palisade posture` as an operator and as CI see it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "all of this is test code")]

mod support;

use std::fs;

use support::{command, documented, palisade, root, stdout};

const LOGIN: &str = "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: public, namespace: bank}
spec:
  selector: {app: edge}
  servers: [{port: {number: 443, name: https, protocol: HTTPS}, hosts: ['*'], tls: {mode: SIMPLE, credentialName: api}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: api, namespace: bank}
spec:
  hosts: [api.example]
  gateways: [public]
  http:
  - {name: login, match: [{uri: {exact: /login}, method: {exact: POST}}], route: [{destination: {host: auth}}]}
";

#[test]
fn the_documented_table_of_the_examples_is_what_is_printed() {
    let command = "palisade posture --width 120 examples/init examples/fintech";
    let documented = documented("docs/lint-in-ci.md", command, "\n```");
    let words = ["posture", "--check", "--width", "120", "examples/init", "examples/fintech"];
    let output = palisade(&root(), &words);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(stdout(&output).trim_end(), documented);
}

#[test]
fn a_hole_stands_out_without_colours_and_fails_a_check() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("edge.yaml"), LOGIN).unwrap();
    let shown = palisade(folder.path(), &["posture", "."]);
    let text = stdout(&shown);
    assert_eq!(shown.status.code(), Some(0));
    assert!(text.contains("\nHOLE   POST /login"), "{text}");
    for part in [
        "! NONE",
        "! login unlimited",
        "! mTLS not strict",
        "! lets in ANYONE",
        "[PAL3001]",
        "1 route, 4 holes",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(text.contains("in bank/api/login at ./edge.yaml:15"), "{text}");
    assert!(!text.contains('\u{1b}'), "{text}");
    let checked = palisade(folder.path(), &["posture", "--check", "."]);
    assert_eq!((checked.status.code(), stdout(&checked)), (Some(2), text));
}

#[test]
fn a_table_is_as_wide_as_asked_for_and_a_list_breaks_no_line() {
    for width in ["40", "79", "80", "100", "140"] {
        let words = ["posture", "examples/init", "examples/fintech"];
        let given = palisade(&root(), &[&words[..], &["--width", width]].concat());
        let told = command(&root(), &words).env("COLUMNS", width).output().unwrap();
        assert_eq!(stdout(&given), stdout(&told), "{width}");
        let (text, width) = (stdout(&given), width.parse::<usize>().unwrap());
        if width < 100 {
            assert!(text.lines().any(|line| line == "             of https://auth.shop.example"), "{text}");
            continue;
        }
        let widest = text.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(widest <= width, "{width}: {widest}\n{text}");
    }
}

#[test]
fn json_has_the_same_rows() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("edge.yaml"), LOGIN).unwrap();
    let output = palisade(folder.path(), &["posture", "-o", "json", "--check", "edge.yaml"]);
    assert_eq!(output.status.code(), Some(2));
    let json: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    let row = &json["routes"][0];
    assert_eq!((&row["route"], &row["authentication"]), (&"bank/api/login".into(), &"none".into()));
    assert_eq!(
        (&row["upstreams"][0]["mtls"], &row["upstreams"][0]["anyone"]),
        (&"permissive".into(), &true.into())
    );
    let codes: Vec<&str> =
        row["holes"].as_array().unwrap().iter().map(|hole| hole["code"].as_str().unwrap()).collect();
    assert_eq!(codes, ["PAL3001", "PAL3004", "PAL3008", "PAL3009"]);
}

#[test]
fn documents_that_are_malformed_have_no_posture() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::write(path.join("bad.yaml"), LOGIN.replace("hosts: [api.example]", "hots: [api.example]")).unwrap();
    fs::write(path.join("none.yaml"), "").unwrap();
    let bad = palisade(path, &["posture", "bad.yaml"]);
    let stderr = String::from_utf8(bad.stderr.clone()).unwrap();
    assert_eq!((bad.status.code(), stdout(&bad).as_str()), (Some(2), ""));
    assert!(stderr.contains("bad.yaml:12:3") && stderr.contains("did you mean \"hosts\"?"), "{stderr}");
    let none = palisade(path, &["posture", "none.yaml"]);
    assert_eq!(none.status.code(), Some(0));
    assert!(stdout(&none).starts_with("no routes: no VirtualService"), "{}", stdout(&none));
}
