//! What the schemas say of fields, and that they refuse those that nobody reads.

use palisade_policy::finding::code;
use palisade_policy::schema::{Subject, instances, of};
use serde_json::{Value as Json, json};

use crate::{JUDGE, corpus, read};

#[test]
fn every_field_that_a_reader_takes_says_what_it_holds() {
    fn check(schema: &Json, path: &str) {
        let keys = ["type", "enum", "const", "anyOf"];
        let says = *schema == json!(true) || keys.iter().any(|key| schema.get(key).is_some());
        assert!(says, "{path}: a schema cannot know what is read here; read it by a method of the Reader");
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            check(property, &format!("{path}.{name}"));
        }
        for key in ["items", "additionalProperties"] {
            if let Some(below) = schema.get(key).filter(|below| !below.is_boolean()) {
                check(below, &format!("{path}[]"));
            }
        }
    }
    Subject::all().for_each(|subject| check(&of(subject), subject.name()));
}

#[test]
fn fields_have_the_words_the_types_and_the_bounds_that_the_reader_asks_for() {
    let rows = [
        (
            "PeerAuthentication",
            "/spec/properties/mtls/properties/mode/enum",
            json!(["UNSET", "DISABLE", "PERMISSIVE", "STRICT"]),
        ),
        (
            "PeerAuthentication",
            "/spec/properties/portLevelMtls/propertyNames",
            json!({"pattern": "^[1-9][0-9]{0,4}$"}),
        ),
        ("AuthorizationPolicy", "/spec/properties/action/enum", json!(["ALLOW", "DENY", "AUDIT"])),
        (
            "AuthorizationPolicy",
            "/spec/properties/rules/items/properties/from/items/required",
            json!(["source"]),
        ),
        ("AuthorizationPolicy", "/spec/type", json!(["object", "null"])),
        ("ServiceEntry", "/spec/required", json!(["hosts", "ports", "resolution"])),
        ("ServiceEntry", "/spec/properties/ports/items/properties/number/maximum", json!(65535)),
        ("Gateway", "/spec/properties/selector/additionalProperties", json!({"type": "string"})),
        (
            "VirtualService",
            "/spec/properties/http/items/properties/mirrors/items/required",
            json!(["destination"]),
        ),
        (
            "VirtualService",
            "/spec/properties/http/items/properties/directResponse/properties/body/properties/bytes/type",
            json!("string"),
        ),
        ("RateLimitPolicy", "/spec/properties/limits/items/required", json!(["limit", "name", "window"])),
        (
            "RateLimitPolicy",
            "/spec/properties/limits/items/properties/onStoreFailure/enum",
            json!(["local", "deny", "allow"]),
        ),
        ("RateLimitPolicy", "/spec/properties/limits/items/properties/headers", json!({"type": "boolean"})),
        ("PolicyTest", "/spec/properties/cases/items/properties/token/additionalProperties", json!(true)),
        ("MeshConfig", "/metadata/required", json!(["name"])),
        ("MeshConfig", "/apiVersion/enum", json!(["palisade.mesh/v1"])),
    ];
    for (kind, pointer, expected) in rows {
        let subject = Subject::all().find(|subject| subject.name() == kind).unwrap();
        let schema = of(subject);
        assert_eq!(schema["properties"].pointer(pointer), Some(&expected), "{kind}{pointer}");
    }
}

#[test]
fn typos_are_refused_as_the_reader_refuses_them() {
    let policy = |spec: &str| {
        format!(
            "{{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {{name: x}}, spec: {spec}}}"
        )
    };
    let operation = |field: &str| policy(&format!("{{rules: [{{to: [{{operation: {{{field}: [x]}}}}]}}]}}"));
    let source = |field: &str| policy(&format!("{{rules: [{{from: [{{source: {{{field}: [x]}}}}]}}]}}"));
    let mesh = |metadata: &str, spec: &str| {
        format!("{{apiVersion: palisade.mesh/v1, kind: MeshConfig, metadata: {metadata}, spec: {spec}}}")
    };
    let entry = |field: &str| {
        format!(
            "{{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {{name: x}}, spec: {{hosts: [a.b], \
             ports: [{{number: 80, name: http, protocol: HTTP}}], resolution: DNS, location: MESH_EXTERNAL, {field}: []}}}}"
        )
    };
    let good = [operation("paths"), source("namespaces"), entry("endpoints")];
    for text in good.iter().flat_map(|text| instances(text)) {
        assert!(JUDGE.complaint(&text).is_none() && !read(&text).has_errors(), "{text}");
    }
    let typos = [
        operation("path"),
        operation("method"),
        operation("Paths"),
        operation("notpaths"),
        source("principal"),
        source("namespace"),
        source("notPrinciples"),
        source("trustDomain"),
        policy("{rule: []}"),
        policy("{selectors: {}}"),
        policy("{selector: {matchlabels: {}}}"),
        policy("{rules: [{form: []}]}"),
        policy("{targetRef: {}}"),
        policy("{provider: {name: x}}"),
        entry("endpoint"),
        entry("subjectAltName"),
        entry("workloadSelector"),
        mesh("{name: default, namespace: palisade-system}", "{ambiguousPath: KEEP}"),
        mesh("{name: default, namespaces: palisade-system}", "{}"),
        mesh("{name: default, namespace: palisade-system, uid: x}", "{}"),
    ];
    for text in &typos {
        let document = &instances(text)[0];
        assert!(read(document).has_errors(), "the reader takes {text}");
        assert!(JUDGE.complaint(document).is_some(), "the schema takes {text}");
    }
}

#[test]
fn a_field_that_nobody_knows_is_refused_wherever_the_reader_refuses_it() {
    let (mut refused, mut taken) = (0, 0);
    for document in &*corpus::ALL {
        for pointer in mappings(&document.json, "") {
            let mut changed = document.json.clone();
            changed.pointer_mut(&pointer).unwrap()["zzzz"] = json!("x");
            let errors = read(&changed);
            let is_unknown = errors.0.iter().any(|finding| finding.code == code::UNKNOWN_FIELD);
            let complains = JUDGE.complaint(&changed).is_some();
            // Labels and the like: a mapping of data, to which a field more is nothing.
            assert!(complains == is_unknown || errors.has_errors(), "{pointer} of {changed}: {errors}");
            assert!(complains || !is_unknown, "{pointer} of {changed}");
            *if complains { &mut refused } else { &mut taken } += 1;
        }
    }
    assert!(refused > 1000 && taken > 50, "{refused} {taken}");
}

/// Pointers to every mapping of a document.
fn mappings(json: &Json, pointer: &str) -> Vec<String> {
    let escaped = |key: &str| key.replace('~', "~0").replace('/', "~1");
    match json {
        Json::Object(fields) => {
            let below =
                fields.iter().flat_map(|(key, v)| mappings(v, &format!("{pointer}/{}", escaped(key))));
            [pointer.to_owned()].into_iter().chain(below).collect()
        }
        Json::Array(items) => {
            items.iter().enumerate().flat_map(|(i, item)| mappings(item, &format!("{pointer}/{i}"))).collect()
        }
        _ => Vec::new(),
    }
}
