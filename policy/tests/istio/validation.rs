//! What a valid document is: the cases of Istio's own validation, read by our reader.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use palisade_policy::Severity;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{data, read};
use crate::support::findings;

/// A key of RFC 7517, appendix A.1, within a text of JSON.
const KEYS: &str = r#"{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4\",\"y\":\"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM\"}]}"#;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[serde(rename = "istio")]
    _source: String,
    kinds: BTreeMap<String, Vec<Case>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    /// Istio's verdict.
    valid: bool,
    /// The codes of errors that are found here; none: the document is taken.
    #[serde(default)]
    refused: BTreeSet<String>,
    /// Why that is another verdict than Istio's: the beginning of a line of `docs/reference/istio-semantics.md`.
    why: Option<String>,
    /// The object's name, where it matters.
    #[serde(default = "default")]
    object: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    spec: Value,
}

fn default() -> String {
    "default".into()
}

impl Case {
    /// JSON is YAML.
    fn document(&self, kind: &str) -> String {
        let metadata = json!({"name": self.object, "namespace": "shop", "annotations": self.annotations});
        let group = if kind == "DestinationRule" { "networking" } else { "security" };
        let version = format!("{group}.istio.io/v1");
        let text =
            json!({"apiVersion": version, "kind": kind, "metadata": metadata, "spec": self.spec}).to_string();
        text.replace("$KEYS", KEYS)
    }
}

#[test]
fn documents_are_valid_where_they_are_valid_in_istio_or_the_docs_say_why_not() {
    let table: Table = read(&data().join("validation.json"));
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/istio-semantics.md");
    let docs = fs::read_to_string(docs).unwrap();
    let (mut cases, mut differ, mut wrong) = (0, 0, Vec::new());
    for (kind, of_kind) in &table.kinds {
        for case in of_kind {
            let found = findings(&case.document(kind));
            let errors = found.0.iter().filter(|f| f.severity == Severity::Error);
            let errors: BTreeSet<String> = errors.map(|f| f.code.to_owned()).collect();
            if errors != case.refused {
                wrong.push(format!("{kind}/{}: {errors:?}", case.name));
            }
            cases += 1;
            if case.valid != case.refused.is_empty() {
                differ += 1;
                let why = case.why.as_deref().unwrap_or_else(|| panic!("{}: why?", case.name));
                assert!(docs.contains(&format!("\n| {why} |")), "{}: no line about {why:?}", case.name);
                assert!(case.valid, "{}: a difference that is not stricter", case.name);
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    eprintln!("{cases} cases of Istio's validation, {differ} with another verdict on purpose");
    assert_eq!((cases, differ), (240, 20));
}
