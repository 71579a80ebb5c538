//! Bad documents: each problem is found, with its code, its place and what to do.

#![expect(clippy::panic, reason = "test code")]

mod support;

use std::fs;
use std::path::Path;

use palisade_policy::document::{Parsed, SourceFile, parse, parse_all};
use palisade_policy::finding::code;
use palisade_policy::{Finding, PolicySet, Severity};
use support::{file, findings};

/// `spec` in flow style, below `  ` of an AuthorizationPolicy.
fn policy(spec: &str) -> String {
    object("security.istio.io/v1", "AuthorizationPolicy", spec)
}

fn entry(spec: &str) -> String {
    object("networking.istio.io/v1", "ServiceEntry", spec)
}

fn rule(spec: &str) -> String {
    object("networking.istio.io/v1", "DestinationRule", spec)
}

fn object(version: &str, kind: &str, spec: &str) -> String {
    format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{name: x, namespace: bank}}\nspec: {spec}\n")
}

/// Exactly one finding with this code and path; returned for further questions.
#[track_caller]
fn one(text: &str, code: &str, path: &str) -> Finding {
    let all = findings(text);
    let rendered = all.render(&[file(text)]);
    let [finding] = all.0.as_slice() else { panic!("{} findings for {text}\n{rendered}", all.0.len()) };
    assert_eq!((finding.code, finding.path.as_str()), (code, path), "{rendered}");
    finding.clone()
}

#[track_caller]
fn error(text: &str, code: &str, path: &str) -> Finding {
    let finding = one(text, code, path);
    assert_eq!(finding.severity, Severity::Error, "{finding}");
    finding
}

#[test]
fn text_that_is_no_yaml_or_uses_what_is_not_taken() {
    error("a: [", "PAL0001", "");
    error(&format!("a: {}", "x".repeat(2 << 20)), "PAL0002", "");
    error(&"[".repeat(100), "PAL0002", "");
    error("a: &x 1\nb: *x\n", "PAL0004", "");
    error("a: !!str 1\n", "PAL0004", "");
    error("- a\n", "PAL0005", "");
    assert!(findings("").is_empty());
    assert!(findings("---\n---\n# nothing\n").is_empty());
}

#[test]
fn a_key_written_twice() {
    let text = policy("{action: DENY, action: ALLOW, rules: [{}]}");
    let finding = error(&text, "PAL0003", "spec.action");
    assert!(finding.message.contains("line 4"), "{finding}");
}

#[test]
fn envelopes_that_do_not_fit() {
    let near = error(&object("security.istio.io/v1", "AuthorisationPolicy", "{}"), "PAL0006", "kind");
    assert_eq!(near.help.as_deref(), Some("did you mean AuthorizationPolicy?"));
    error(&object("v1", "AuthorizationPolicy", "{}"), "PAL0007", "apiVersion");
    error(&object("palisade.mesh/v1beta1", "AuthorizationPolicy", "{}"), "PAL0007", "apiVersion");
    for kind in ["EnvoyFilter", "WasmPlugin", "Sidecar", "Telemetry"] {
        let finding = error(&object("networking.istio.io/v1", kind, "{}"), "PAL0015", "kind");
        assert!(finding.help.is_some(), "{kind}");
    }
    error("kind: AuthorizationPolicy\nmetadata: {name: x}\n", "PAL0012", "apiVersion");
    error("apiVersion: security.istio.io/v1\nmetadata: {name: x}\n", "PAL0012", "kind");
    let head = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n";
    error(&format!("{head}metadata: {{namespace: x}}\n"), "PAL0012", "metadata.name");
    error(&format!("{head}metadata: {{name: a/b}}\n"), "PAL0014", "metadata.name");
    error(&format!("{head}metadata: {{name: 1}}\n"), "PAL0010", "metadata.name");
    error(&format!("{head}metadata: {{name: x}}\nspek: {{}}\n"), "PAL0008", "spek");
    assert!(findings(&format!("{head}metadata: {{name: x}}\n")).is_empty());
    let beta = head.replace("/v1", "/v1beta1");
    assert!(findings(&format!("{beta}metadata: {{name: x}}\n")).is_empty());
}

#[test]
fn unknown_fields_wrong_types_and_bad_words() {
    let finding = error(&policy("{rulez: []}"), "PAL0008", "spec.rulez");
    assert_eq!(finding.help.as_deref(), Some("did you mean \"rules\"?"));
    error(&policy("{rules: {}}"), "PAL0010", "spec.rules");
    error(&policy("{rules: [null]}"), "PAL0010", "spec.rules[0]");
    error(&policy("{action: Deny, rules: [{}]}"), "PAL0011", "spec.action");
    error(&policy("{rules: [{from: null}]}"), "PAL0010", "spec.rules[0].from");
    let quoted = error(
        &policy("{rules: [{to: [{operation: {ports: [8080]}}]}]}"),
        "PAL0010",
        "spec.rules[0].to[0].operation.ports[0]",
    );
    assert_eq!(quoted.help.as_deref(), Some("put the value in quotes"));
    error(&policy("{rules: [{to: [{methods: [GET]}]}]}"), "PAL0012", "spec.rules[0].to[0].operation");
    error(&policy("{selector: {matchExpressions: []}}"), "PAL0009", "spec.selector.matchExpressions");
}

#[test]
fn rules_that_do_not_mean_what_they_say() {
    let source = |fields: &str| policy(&format!("{{rules: [{{from: [{{source: {{{fields}}}}}]}}]}}"));
    let operation = |fields: &str| policy(&format!("{{rules: [{{to: [{{operation: {{{fields}}}}}]}}]}}"));
    let when = |fields: &str| policy(&format!("{{rules: [{{when: [{{{fields}}}]}}]}}"));
    let in_source = "spec.rules[0].from[0].source";
    let in_operation = "spec.rules[0].to[0].operation";

    error(&policy("{action: DENY}"), "PAL1001", "spec");
    error(&policy("{action: CUSTOM, provider: {name: x}, rules: [{}]}"), "PAL1002", "spec.action");
    error(&policy("{targetRefs: [], rules: [{}]}"), "PAL1003", "spec.targetRefs");
    let scheme = error(
        &source("principals: ['spiffe://corp.example/ns/a/sa/b']"),
        "PAL1004",
        &format!("{in_source}.principals[0]"),
    );
    assert!(scheme.help.unwrap().contains("\"corp.example/ns/a/sa/b\""));
    error(&source("serviceAccounts: [a], namespaces: [b]"), "PAL1005", in_source);
    error(&source("notServiceAccounts: [a], principals: ['*']"), "PAL1005", in_source);
    error(&source("serviceAccounts: ['a*']"), "PAL1012", &format!("{in_source}.serviceAccounts[0]"));
    error(&source("ipBlocks: [10.0.0.0/33]"), "PAL1007", &format!("{in_source}.ipBlocks[0]"));
    error(&source("notRemoteIpBlocks: [x]"), "PAL1007", &format!("{in_source}.notRemoteIpBlocks[0]"));
    error(&source(""), "PAL1011", in_source);
    error(&policy("{rules: [{from: []}]}"), "PAL1011", "spec.rules[0].from");
    for port in ["http", "0", "65536", "+80", "080", "80-90"] {
        error(&operation(&format!("ports: ['{port}']")), "PAL1006", &format!("{in_operation}.ports[0]"));
    }
    error(&operation("paths: ['/a/{id}']"), "PAL1009", &format!("{in_operation}.paths[0]"));
    error(&operation("paths: ['']"), "PAL0013", &format!("{in_operation}.paths[0]"));
    let key = error(&when("key: 'request.header[x]', values: [a]"), "PAL1008", "spec.rules[0].when[0].key");
    assert!(key.help.unwrap().contains("request.headers"));
    error(&when("key: experimental.envoy.x, values: [a]"), "PAL1015", "spec.rules[0].when[0].key");
    error(&when("key: 'request.headers[:path]', values: [a]"), "PAL1015", "spec.rules[0].when[0].key");
    error(&when("key: source.ip"), "PAL1011", "spec.rules[0].when[0]");
    let dry =
        policy("{}").replace("namespace: bank", "namespace: bank, annotations: {istio.io/dry-run: maybe}");
    error(&dry, "PAL1013", "metadata.annotations.istio.io/dry-run");
}

#[test]
fn warnings_do_not_refuse() {
    let source = |fields: &str| policy(&format!("{{rules: [{{from: [{{source: {{{fields}}}}}]}}]}}"));
    let warned = [
        (source("principals: ['a/*/b', '*']"), "PAL1010"),
        (source("requestPrincipals: ['*']"), "PAL1014"),
        (source("principals: [payments]"), "PAL1016"),
        (source("principals: ['*'], namespaces: []"), "PAL0016"),
    ];
    for (text, code) in warned {
        let all = findings(&text);
        assert_eq!((all.0.len(), all.0[0].code, all.0[0].severity), (1, code, Severity::Warning), "{all}");
    }
}

#[test]
fn peer_authentication_and_mesh_config() {
    let peer = |spec: &str| object("security.istio.io/v1", "PeerAuthentication", spec);
    error(&peer("{portLevelMtls: {'8080': {mode: DISABLE}}}"), "PAL1101", "spec.portLevelMtls");
    error(&peer("{mtls: {mode: STRIKT}}"), "PAL0011", "spec.mtls.mode");
    let root = peer("{selector: {matchLabels: {app: a}}, mtls: {mode: DISABLE}}");
    let root = root.replace("namespace: bank", "namespace: palisade-system");
    error(&root, "PAL1102", "spec.selector");
    let selected = "{selector: {matchLabels: {app: a}}, portLevelMtls: {http: {mode: DISABLE}}}";
    error(&peer(selected), "PAL1006", "spec.portLevelMtls.http");
    error(&object("palisade.mesh/v1", "MeshConfig", "{}"), "PAL0106", "metadata");
    let two = peer("{mtls: {mode: STRICT}}") + "---\n" + &peer("{}").replace("name: x", "name: y");
    error(&two, "PAL0105", "spec");
}

#[test]
fn service_entries() {
    let with = |fields: &str| {
        entry(&format!(
            "{{hosts: [api.example.com], ports: [{{number: 443, name: https, protocol: HTTPS}}], {fields}}}"
        ))
    };
    assert!(findings(&with("resolution: DNS")).is_empty());
    error(&with("resolution: NONE"), "PAL0009", "spec.resolution");
    error(&with("location: MESH_EXTERNAL"), "PAL0012", "spec.resolution");
    error(&with("resolution: STATIC"), "PAL1205", "spec.endpoints");
    error(
        &with("resolution: STATIC, endpoints: [{address: a.example}]"),
        "PAL1202",
        "spec.endpoints[0].address",
    );
    error(
        &with("resolution: DNS, endpoints: [{address: a, ports: {http: 1}}]"),
        "PAL1208",
        "spec.endpoints[0].ports.http",
    );
    error(
        &with("resolution: DNS, endpoints: [{address: a, network: n}]"),
        "PAL0009",
        "spec.endpoints[0].network",
    );
    error(&with("resolution: DNS, location: MESH_INTERNAL"), "PAL1203", "spec.endpoints");
    error(&with("resolution: DNS, exportTo: [bank]"), "PAL1206", "spec.exportTo[0]");
    error(&with("resolution: DNS, subjectAltNames: ['spiffe://a/b']"), "PAL1207", "spec.subjectAltNames[0]");
    error(&with("resolution: DNS, workloadSelector: {}"), "PAL0009", "spec.workloadSelector");
    for host in ["'*.example'", "Api.example", "a.example:443", "10.0.0.1", "a..b", "-a.b", "a.b."] {
        let text = with("resolution: DNS").replace("api.example.com", host);
        error(&text, "PAL1201", "spec.hosts[0]");
    }
    let twice = with("resolution: DNS") + "---\n" + &with("resolution: DNS").replace("name: x", "name: y");
    error(&twice, "PAL0103", "spec.hosts[0]");
    let internal =
        "location: MESH_INTERNAL, resolution: STATIC, endpoints: [{address: 10.0.0.1, serviceAccount: l}]";
    let hijack = with(internal).replace("api.example.com", "ledger.other");
    error(&hijack, "PAL0104", "spec.hosts[0]");
    assert!(findings(&with(internal).replace("api.example.com", "ledger.bank")).is_empty());
}

#[test]
fn destination_rules() {
    let tls = |fields: &str| rule(&format!("{{host: a.example, trafficPolicy: {{tls: {{{fields}}}}}}}"));
    let at = "spec.trafficPolicy.tls";
    let found = |text: &str, code: &str, path: &str| {
        let all = findings(text);
        assert!(all.0.iter().any(|f| f.code == code && f.path == path), "{text}: {all}");
    };
    found(&tls("mode: MUTUAL"), "PAL1301", at);
    found(&tls("mode: SIMPLE, privateKey: x"), "PAL1301", at);
    found(&tls("mode: DISABLE, sni: x"), "PAL1301", at);
    found(&tls("mode: SIMPLE, credentialName: x"), "PAL0009", &format!("{at}.credentialName"));
    found(&tls("mode: SIMPLE, insecureSkipVerify: true"), "PAL0009", &format!("{at}.insecureSkipVerify"));
    found(&rule("{host: '*.example'}"), "PAL1201", "spec.host");
    let unknown = one(&rule("{host: api.a.example}"), "PAL0102", "spec.host");
    assert_eq!(unknown.severity, Severity::Warning);
    for of_mesh in ["ledger", "ledger.bank"] {
        let none = findings(&rule(&format!("{{host: {of_mesh}}}")));
        assert!(none.is_empty(), "nobody has joined yet, and {of_mesh} may: {none}");
    }
}

#[test]
fn two_documents_with_one_name_are_both_shown() {
    let files = [
        SourceFile { name: "a.yaml".into(), text: policy("{}") },
        SourceFile { name: "b.yaml".into(), text: policy("{rules: [{}]}") },
    ];
    let (objects, findings) = parse(&files);
    assert!(findings.is_empty());
    let findings = PolicySet::new(objects, &[]).unwrap_err();
    let rendered = findings.render(&files);
    assert!(
        rendered.contains("PAL0101") && rendered.contains("b.yaml:1") && rendered.contains("a.yaml:1"),
        "{rendered}"
    );
}

#[test]
fn unknown_services_and_accounts_are_warned_of_once_services_are_known() {
    let text = policy(
        "{selector: {matchLabels: {app: ledgr}}, rules: [{from: [{source: {principals: [corp.example/ns/bank/sa/payment]}}]}]}",
    );
    let (objects, _) = parse(&[file(&text)]);
    let known = ["ledger.bank".to_owned(), "payments.bank".to_owned()];
    let (_, warnings) = PolicySet::new(objects.clone(), &known).unwrap();
    let codes: Vec<&str> = warnings.0.iter().map(|f| f.code).collect();
    assert_eq!(codes, ["PAL0102", "PAL0107"]);
    assert_eq!(warnings.0[0].help.as_deref(), Some("did you mean \"ledger.bank\"?"));
    assert!(PolicySet::new(objects, &[]).unwrap().1.is_empty());
}

#[test]
fn all_problems_of_all_files_are_reported_at_once() {
    let files = [
        SourceFile { name: "a.yaml".into(), text: policy("{rulez: [], action: DENI}") },
        SourceFile { name: "b.yaml".into(), text: policy("{}") + "---\nkind: Ledger\n" },
        SourceFile { name: "c.yaml".into(), text: "x: [".into() },
    ];
    let (objects, findings) = parse(&files);
    let names: Vec<_> = findings.0.iter().map(|f| f.position.as_ref().unwrap().file.as_str()).collect();
    assert!(["a.yaml", "b.yaml", "c.yaml"].iter().all(|n| names.contains(n)), "{findings}");
    assert!(findings.0.len() >= 5, "{findings}");
    assert_eq!(objects.len(), 1);
}

#[test]
fn a_finding_shows_its_line_with_a_caret() {
    let text = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata:\n  name: x\n  namespace: bank\nspec:\n  rules:\n  - to:\n    - operation:\n        metods: [\"GET\"]\n";
    let files = [file(text)];
    let rendered = parse(&files).1.render(&files);
    let expected = "error[PAL0008]: there is no field \"metods\" here\n  --> test.yaml:10:9\n    |\n 10 |         metods: [\"GET\"]\n    |         ^\n   = in AuthorizationPolicy bank/x\n   = at spec.rules[0].to[0].operation.metods\n   = help: did you mean \"methods\"?\n\n";
    assert_eq!(rendered.split_inclusive("\n\n").next(), Some(expected), "{rendered}");
}

#[test]
fn each_document_keeps_its_own_text() {
    let (a, b) = (
        policy("{}"),
        policy("{rules: [{}]}").replace("name: x", "name: y")
            + "# é, the last line
",
    );
    let (objects, findings) = parse(&[file(&format!("# first\n{a}---\n{b}"))]);
    assert!(findings.is_empty(), "{findings}");
    assert_eq!(objects[0].text, format!("# first\n{a}"));
    assert_eq!(objects[1].text, b);
    for object in &objects {
        let (again, _) = parse(&[file(&object.text)]);
        assert_eq!(again[0].spec, object.spec);
    }
}

#[test]
fn every_code_is_explained_in_the_reference() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/findings.md");
    let page = fs::read_to_string(path).unwrap();
    for (code, title) in code::ALL {
        assert!(
            page.contains(&format!("| {code} | {title} |")),
            "{code} {title} is not in docs/reference/findings.md"
        );
    }
    for (code, _) in code::ALL {
        for alias in code::aliases(code) {
            let named = |line: &str| line.starts_with("| IST") && line.contains(alias) && line.contains(code);
            assert!(page.lines().any(named), "{alias} of {code} is not in docs/reference/findings.md");
        }
    }
    let rows = page.lines().filter(|line| line.starts_with("| PAL")).count();
    assert_eq!(rows, code::ALL.len(), "the page explains a code that does not exist");
}

#[test]
fn every_kind_has_a_page_in_the_reference() {
    for kind in palisade_policy::kind::Kind::ALL {
        let name = format!("../docs/reference/{}.md", kind.name());
        let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(&name)).unwrap();
        assert!(page.contains(kind.api_version()), "{name}");
        let example = page.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        let (objects, findings) = parse(&[file(example)]);
        assert!(findings.is_empty(), "{name}: {findings}");
        assert_eq!(objects[0].spec.kind(), kind, "{name}");
    }
}

/// Task pages promise as much as the reference: whoever copies an example must not be told that it is wrong.
#[test]
fn every_document_of_the_pages_is_taken() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let mut seen = 0;
    for folder in [docs.join("reference"), docs] {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|ending| ending != "md") {
                continue;
            }
            let page = fs::read_to_string(&path).unwrap();
            let blocks = page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
            // A part of a document, or of another tool's, does not say what it is.
            for block in blocks.filter(|block| block.contains("apiVersion:")) {
                let Parsed { objects, tests, rehearsals, findings } = parse_all(&[file(block)]);
                let count = objects.len() + tests.len() + rehearsals.len();
                assert!(!findings.has_errors() && count > 0, "{}: {findings}", path.display());
                seen += 1;
            }
        }
    }
    assert!(seen > 12, "{seen} blocks");
}
