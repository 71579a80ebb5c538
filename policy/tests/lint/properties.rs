//! Lint never panics and never depends on the order of objects, whatever parses.

use std::fs;
use std::path::Path;

use palisade_policy::document::{SourceFile, parse};
use palisade_policy::lint::lint;
use palisade_policy::posture::posture;
use proptest::prelude::*;
use proptest::sample::select;

use crate::NOW;

const VALUES: &[&str] = &[
    "/a",
    "/a*",
    "*",
    "*a",
    "/a/{*}",
    "/{**}",
    "/{",
    "",
    "a.b:80",
    "10.0.0.0/8",
    "é*",
    "GET",
    "**",
    "/login",
    "/a/*",
];
const FIELDS: &[&str] = &[
    "principals",
    "notPrincipals",
    "namespaces",
    "serviceAccounts",
    "ipBlocks",
    "requestPrincipals",
    "notRequestPrincipals",
];
const OPERATIONS: &[&str] = &["paths", "notPaths", "methods", "notMethods", "hosts", "ports", "notHosts"];
const KEYS: &[&str] =
    &["source.principal", "request.auth.claims[scope]", "source.ip", "request.auth.principal"];
const MATCHES: &[&str] = &["exact", "prefix", "regex"];

fn rule() -> impl Strategy<Value = String> {
    let value = || select(VALUES);
    (select(FIELDS), value(), select(OPERATIONS), value(), select(KEYS), value(), 0..8u8).prop_map(
        |(field, a, operation, b, key, c, parts)| {
            let mut out = Vec::new();
            if parts & 1 > 0 {
                out.push(format!("from: [{{source: {{{field}: ['{a}']}}}}]"));
            }
            if parts & 2 > 0 {
                out.push(format!("to: [{{operation: {{{operation}: ['{b}', '{a}']}}}}]"));
            }
            if parts & 4 > 0 {
                out.push(format!("when: [{{key: '{key}', values: ['{c}']}}]"));
            }
            format!("{{{}}}", out.join(", "))
        },
    )
}

fn object() -> impl Strategy<Value = String> {
    let namespace = select(vec!["bank", "palisade-system", "shop"]);
    let name = select(vec!["a", "b", "c", "d"]);
    let labels = select(vec!["", "app: edge", "app: edge, v: '1'", "app: x"]);
    let policy =
        (prop::collection::vec(rule(), 0..4), select(vec!["ALLOW", "DENY", "AUDIT"]), labels.clone())
            .prop_map(|(rules, action, labels)| {
                (
                    "AuthorizationPolicy",
                    "security.istio.io/v1",
                    format!(
                        "{{selector: {{matchLabels: {{{labels}}}}}, action: {action}, rules: [{}]}}",
                        rules.join(", ")
                    ),
                )
            });
    let route = (select(MATCHES), select(VALUES), select(VALUES), any::<bool>()).prop_map(|(how, uri, origin, all)| {
        let matching = if all { String::new() } else { format!("match: [{{uri: {{{how}: '{uri}'}}}}],") };
        format!(
            "{{{matching} route: [{{destination: {{host: x}}}}], corsPolicy: {{allowOrigins: [{{regex: 'https://{origin}'}}], \
             allowMethods: [POST]}}}}"
        )
    });
    let service = prop::collection::vec(route, 1..4).prop_map(|routes| {
        (
            "VirtualService",
            "networking.istio.io/v1",
            format!("{{hosts: ['*'], gateways: [bank/a], http: [{}]}}", routes.join(", ")),
        )
    });
    let gateway = labels.prop_map(|labels| {
        ("Gateway", "networking.istio.io/v1",
         format!("{{selector: {{{labels}}}, servers: [{{port: {{number: 80, name: http, protocol: HTTP}}, hosts: ['*']}}]}}"))
    });
    let peers = select(vec!["STRICT", "PERMISSIVE", "UNSET"]).prop_map(|mode| {
        ("PeerAuthentication", "security.istio.io/v1", format!("{{mtls: {{mode: {mode}}}}}"))
    });
    let annotation = select(vec!["", "PAL3001: x", "PAL3104", "nonsense"]);
    (prop_oneof![3 => policy, 2 => service, 1 => gateway, 1 => peers], namespace, name, annotation).prop_map(
        |((kind, api, spec), namespace, name, annotation)| {
            format!(
                "---\napiVersion: {api}\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}, annotations: \
                 {{palisade.mesh/lint-ignore: '{annotation}'}}}}\nspec: {spec}\n"
            )
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whether or not the set would be accepted: lint stands on nothing that only `PolicySet` guarantees.
    #[test]
    fn whatever_parses_is_looked_at_without_a_panic(objects in prop::collection::vec(object(), 0..8)) {
        let (objects, _) = parse(&[SourceFile { name: "x".into(), text: objects.concat() }]);
        let _ = lint(&objects, NOW);
        let _ = posture(&objects);
    }

    /// Files are named in any order: by a shell, by hand, by CI.
    #[test]
    fn the_order_of_files_changes_nothing(
        objects in prop::collection::vec(object(), 0..8),
        by in any::<prop::sample::Index>(),
    ) {
        let name = |(i, text): (usize, String)| SourceFile { name: format!("{i}.yaml"), text };
        let mut files: Vec<SourceFile> = objects.into_iter().enumerate().map(name).collect();
        let one = parse(&files).0;
        let at = if files.is_empty() { 0 } else { by.index(files.len()) };
        files.rotate_left(at);
        if at % 2 == 1 {
            files.reverse();
        }
        let other = parse(&files).0;
        prop_assert_eq!(lint(&one, NOW).findings, lint(&other, NOW).findings);
        prop_assert_eq!(posture(&one), posture(&other));
    }

    #[test]
    fn spoiled_documents_are_looked_at_without_a_panic(at in 0usize..2000, junk in "[ -~\n\u{e9}]{0,6}") {
        let mut text = String::from(include_str!("../data/istio-authz/http/multiple-policies-in.yaml"));
        text.insert_str(at.min(text.len()), &junk);
        let (objects, _) = parse(&[SourceFile { name: "x".into(), text }]);
        let _ = lint(&objects, NOW);
    }

    /// A policy more that denies, or one dry run less, opens nothing.
    #[test]
    fn another_deny_of_what_has_no_token_closes_every_route(objects in prop::collection::vec(object(), 0..6)) {
        let deny = "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: deny, namespace: \
                    palisade-system}\nspec: {action: DENY, rules: [{from: [{source: {notRequestPrincipals: ['*']}}]}]}\n";
        let text = objects.concat() + deny;
        let (objects, _) = parse(&[SourceFile { name: "x".into(), text }]);
        prop_assert!(lint(&objects, NOW).findings.0.iter().all(|f| f.code != "PAL3001"));
    }
}

#[test]
fn policies_of_istios_own_tests_are_looked_at() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/istio-authz");
    let mut count = 0;
    for protocol in ["http", "tcp"] {
        for file in fs::read_dir(folder.join(protocol)).unwrap() {
            let text = fs::read_to_string(file.unwrap().path()).unwrap();
            let (objects, _) = parse(&[SourceFile { name: "x".into(), text }]);
            let report = lint(&objects, NOW);
            assert!(report.findings.0.iter().all(|f| f.position.is_some()));
            count += 1;
        }
    }
    assert!(count > 20, "{count}");
}
