//! `palisade explain` as an operator sees it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "all of this is test code")]

mod support;

use std::process::Output;

use support::{documented, palisade, root, stdout};

/// The command on the policies of the examples.
fn of_examples<'w>(words: &[&'w str]) -> Vec<&'w str> {
    let policies = ["explain", "--policies", "examples/init", "--policies", "examples/fintech"];
    [&policies[..], words].concat()
}

fn explain(words: &[&str]) -> Output {
    palisade(&root(), &of_examples(words))
}

#[track_caller]
fn check(words: &[&str], code: i32, parts: &[&str]) {
    support::check(&root(), &of_examples(words), code, parts);
}

#[test]
fn a_refusal_is_told_with_the_nearest_rule_and_what_it_lacked() {
    let output =
        explain(&["--from", "payments", "--to", "ledger", "--method", "DELETE", "--path", "/x/../entries"]);
    let expected = "REFUSED: none of the 3 ALLOW rules of this workload matches (no_allow_matched)
  caller    corp.example/ns/fintech/sa/payments
  service   corp.example/ns/fintech/sa/ledger, port 8080
  request   DELETE /x/../entries of host ledger.fintech:8080
  judged as /entries
  nearest   AuthorizationPolicy fintech/ledger-payments, rule 0, at examples/fintech/ledger.yaml:14:7
    method DELETE is not GET or POST
";
    assert_eq!(stdout(&output), expected);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn exit_codes_tell_allowed_refused_and_wrong_apart() {
    let ledger = ["--from", "payments", "--to", "ledger"];
    let with = |more: &[&'static str]| [&ledger[..], more].concat();
    check(&with(&["--method", "POST", "--path", "/entries"]), 0, &["ALLOWED", "ledger.yaml:14:7"]);
    check(&with(&["--path", "/balances/1"]), 1, &["REFUSED"]);
    check(&["--plaintext", "--to", "ledger"], 1, &["plaintext_refused", "palisade-system/mtls-strict"]);
    check(&["--from", "other/x", "--to", "fintech/ledger", "-n", "fintech"], 1, &["unknown_destination"]);
    check(&["--from", "a/b/c", "--to", "ledger"], 2, &["\"a/b/c\" is not the name of a workload"]);
    check(&with(&["--claim", "sub=alice"]), 2, &["--claim iss="]);
    check(&with(&["--header", "x"]), 2, &["name: value"]);
    check(&with(&["--trust-domain", "UPPER"]), 2, &["trust domain"]);
    check(&["--to", "ledger"], 2, &["--from"]);
}

#[test]
fn machines_get_the_same_as_data() {
    let words = ["--from", "edge", "--to", "payments", "--path", "/transfers", "-o", "json"];
    let output = explain(&words);
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&told["allowed"], &told["reason"]), (&false.into(), &"no_allow_matched".into()));
    let nearest = &told["nearest"][0];
    assert_eq!(nearest["rule"]["position"]["file"], "examples/fintech/edge-services.yaml");
    assert_eq!(
        (&nearest["lacks"][0]["field"], &nearest["lacks"][0]["wanted"]),
        (&"method".into(), &"POST".into())
    );
}

#[test]
fn raw_tcp_is_asked_about_without_anything_of_http() {
    let tcp = ["--from", "payments", "--to", "ledger", "--protocol", "tcp"];
    let output = explain(&tcp);
    let expected = "REFUSED: none of the 3 ALLOW rules of this workload matches (no_allow_matched)
  caller    corp.example/ns/fintech/sa/payments
  service   corp.example/ns/fintech/sa/ledger, port 8080
  request   a connection of raw TCP
  nearest   AuthorizationPolicy fintech/ledger-payments, rule 0, at examples/fintech/ledger.yaml:14:7
    protocol TCP is not HTTP
";
    assert_eq!(stdout(&output), expected);
    assert_eq!(output.status.code(), Some(1));
    let with = |more: &[&'static str]| [&tcp[..], more].concat();
    check(&with(&["--method", "GET"]), 2, &["--method says nothing with --protocol tcp"]);
    check(&with(&["--claim", "iss=x"]), 2, &["--claim says nothing"]);
    check(&["--plaintext", "--to", "edge", "--protocol", "tcp"], 2, &["edge serves HTTP and HTTPS"]);
}

#[test]
fn tokens_at_an_edge_are_judged_but_for_their_signature() {
    let claims = ["iss=https://auth.shop.example", "aud=https://shop.example", "sub=alice"];
    let transfer = |more: &[&'static str]| {
        let words: Vec<&str> = claims.iter().flat_map(|claim| ["--claim", *claim]).collect();
        [&["--plaintext", "--to", "edge", "--method", "POST", "--path", "/transfers"][..], &words, more]
            .concat()
    };
    let taken = "signature is taken to be good";
    check(&transfer(&["--claim", "scope=payments:write"]), 0, &["ALLOWED", taken, "fintech/edge/transfers"]);
    check(
        &transfer(&["--claim", "scope=accounts:read"]),
        1,
        &["token_scope", "JwtPolicy fintech/users, rule 2"],
    );
    check(
        &["--plaintext", "--to", "edge", "--path", "/accounts/1", "--invalid-token"],
        1,
        &["token_signature", "route     fintech/api/balances, at examples/fintech/edge.yaml:39:7"],
    );
}

#[test]
fn what_an_edge_refuses_before_rules_of_access_is_told_with_the_object_and_its_line() {
    let edge = |more: &[&'static str]| [&["--plaintext", "--to", "edge"][..], more].concat();
    let page = "docs/reference/cli.md";
    let command = of_examples(&edge(&["--path", "/transfers"])).join(" ");
    let output = explain(&edge(&["--path", "/transfers"]));
    assert_eq!(stdout(&output), documented(page, &format!("palisade {command}"), "$ palisade"));
    assert_eq!(output.status.code(), Some(1));
    let post = ["--method", "POST", "--path", "/transfers"];
    let command = of_examples(&edge(&post)).join(" ");
    let shown = documented(page, &format!("palisade {command}"), "```");
    assert_eq!(stdout(&explain(&edge(&post))), shown);
    check(
        &edge(&["--host", "www.shop.example"]),
        1,
        &[
            "unknownName",
            "port 443 serves api.shop.example",
            "Gateway fintech/public, at examples/fintech/edge.yaml:2:1",
        ],
    );
    check(&edge(&["--port", "80"]), 0, &["ALLOWED", "https_redirect"]);
    check(&edge(&["--port", "8443"]), 1, &["no Gateway of this edge serves port 8443; theirs: 80, 443"]);
    let login = edge(&["--method", "POST", "--path", "/login"]);
    check(
        &[&login[..], &["--body-bytes", "9", "--header", "content-type: text/xml"]].concat(),
        1,
        &[
            "guard_content_type",
            "RequestGuard fintech/edge, rule 0, at examples/fintech/edge-guards.yaml:13:7",
        ],
    );
    check(&["--from", "accounts", "--to", "edge", "--path", "/login"], 1, &["ask with --plaintext"]);
}

#[test]
fn an_edge_with_several_hosts_is_asked_about_one_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: public, namespace: shop}
spec:
  selector: {app: edge}
  servers:
  - {port: {number: 80, name: http, protocol: HTTP}, hosts: [a.example, b.example]}
";
    std::fs::write(folder.path().join("edge.yaml"), gateway).unwrap();
    let words = ["explain", "--policies", ".", "--plaintext", "--to", "edge", "-n", "shop"];
    let parts = ["shop/sa/edge has several hosts: say which one with --host, of a.example, b.example"];
    support::check(folder.path(), &words, 2, &parts);
    let test = "apiVersion: palisade.mesh/v1\nkind: PolicyTest\nmetadata: {name: t, namespace: shop}\nspec:
  cases: [{from: [plaintext], to: [edge], expect: deny}]\n";
    std::fs::write(folder.path().join("test.yaml"), test).unwrap();
    let parts = ["./test.yaml:5:11: ", "has several hosts: say which one with host, of a.example, b.example"];
    support::check(folder.path(), &["test", "."], 2, &parts);
}
