//! Istio's own documents: each is taken, or refused for a reason that is named here.

use std::fs;
use std::path::Path;

use palisade_policy::PolicySet;
use palisade_policy::document::{SourceFile, parse};

/// Documents that are refused, with the only codes that may be found in them.
const REFUSED: &[(&str, &[&str])] = &[
    // The action CUSTOM.
    ("http/custom-bad-multiple-providers-in.yaml", &["PAL1002"]),
    ("http/custom-simple-http-in.yaml", &["PAL1002"]),
    ("tcp/custom-both-http-tcp-in.yaml", &["PAL1002"]),
    ("tcp/custom-only-http-in.yaml", &["PAL1002"]),
    // experimental.* condition keys.
    ("http/allow-full-rule-in.yaml", &["PAL1015"]),
    ("tcp/audit-both-http-tcp-in.yaml", &["PAL1015"]),
    ("tcp/deny-both-http-tcp-in.yaml", &["PAL1015"]),
];

#[test]
fn every_document_of_istio_is_taken_or_refused_for_a_known_reason() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/istio-authz");
    let mut seen = 0;
    for folder in ["http", "tcp"] {
        for entry in fs::read_dir(root.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let name = format!("{folder}/{}", path.file_name().unwrap().to_str().unwrap());
            let files = [SourceFile { name: name.clone(), text: fs::read_to_string(&path).unwrap() }];
            let (objects, findings) = parse(&files);
            let errors: Vec<&str> = findings
                .0
                .iter()
                .filter(|f| f.severity == palisade_policy::Severity::Error)
                .map(|f| f.code)
                .collect();
            match REFUSED.iter().find(|(refused, _)| *refused == name) {
                Some((_, codes)) => {
                    assert!(!errors.is_empty(), "{name} is taken");
                    assert!(errors.iter().all(|c| codes.contains(c)), "{}", findings.render(&files));
                }
                None => {
                    assert!(errors.is_empty(), "{}", findings.render(&files));
                    PolicySet::new(objects, &[]).unwrap();
                }
            }
            seen += 1;
        }
    }
    assert!(seen >= 25, "only {seen} documents found");
}
