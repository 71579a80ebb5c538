//! The annotation that ignores findings, and where findings stand.

use palisade_policy::document::{SourceFile, parse};
use palisade_policy::finding::code;
use palisade_policy::lint::lint;

use crate::{NOW, found, report};

fn scoped(annotations: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata:\n  name: a\n  namespace: bank\n  \
         annotations:\n    palisade.mesh/lint-ignore: {annotations}\nspec: {{rules: [{{to: [{{operation: {{paths: \
         ['/info*']}}}}]}}]}}\n"
    )
}

#[test]
fn a_finding_is_ignored_by_its_code_and_a_reason() {
    let path = "metadata.annotations.palisade.mesh/lint-ignore";
    let at = "spec.rules[0].to[0].operation.paths[0]";
    // annotation, findings, reasons of those ignored
    type Row<'r> = (&'r str, &'r [(&'r str, &'r str)], &'r [&'r str]);
    let rows: &[Row<'_>] = &[
        ("'PAL3104: all of them are public'", &[], &["all of them are public"]),
        ("\"PAL3104: one\\nPAL3107: two\"", &[("PAL3902", path)], &["one"]),
        ("'PAL3104'", &[("PAL3901", path), ("PAL3104", at)], &[]),
        ("'PAL3104:  '", &[("PAL3901", path), ("PAL3104", at)], &[]),
        ("'PAL3999: x'", &[("PAL3901", path), ("PAL3104", at)], &[]),
        ("'PAL0008: x'", &[("PAL3901", path), ("PAL3104", at)], &[]),
        ("'PAL3901: x'", &[("PAL3901", path), ("PAL3104", at)], &[]),
        ("''", &[("PAL3901", path), ("PAL3104", at)], &[]),
        ("'PAL3105: not here'", &[("PAL3902", path), ("PAL3104", at)], &[]),
    ];
    for (annotation, findings, reasons) in rows {
        let text = scoped(annotation);
        let expected: Vec<_> = findings.iter().map(|(code, path)| (*code, (*path).to_owned())).collect();
        assert_eq!(found(&text), expected, "{annotation}");
        let ignored: Vec<String> = report(&text).ignored.into_iter().map(|i| i.reason).collect();
        assert_eq!(ignored, *reasons, "{annotation}");
    }
}

#[test]
fn a_finding_stands_at_its_field_wherever_the_document_starts() {
    let rule = "rules: [{to: [{operation: {paths: ['/info*']}}]}]";
    let block = format!(
        "# first\n\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: a, namespace: b}}\nspec:\n  {rule}\n"
    );
    let second =
        format!("{}---\n# second\n{}", block.replace("name: a", "name: z").replace("info*", "info"), block);
    let flow = format!(
        "--- {{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {{name: a, namespace: b}}, spec: {{{rule}}}}}\n"
    );
    for text in [block, second, flow] {
        let (objects, findings) = parse(&[SourceFile { name: "x.yaml".into(), text: text.clone() }]);
        assert!(findings.is_empty(), "{findings}");
        let report = lint(&objects, NOW);
        let found = report.findings.0.iter().find(|f| f.code == "PAL3104").unwrap();
        let position = found.position.clone().unwrap();
        let line = text.lines().nth(position.line - 1).unwrap();
        let there: String = line.chars().skip(position.column - 1).take(8).collect();
        assert_eq!(there, "'/info*'", "{position:?} in\n{text}");
    }
}

#[test]
fn findings_come_in_the_order_of_places() {
    let text = "---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: b, namespace: bank}
spec: {rules: [{to: [{operation: {paths: ['/a*', '/b*']}}]}, {to: [{operation: {paths: ['/a*']}}]}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: a, namespace: bank}
spec: {rules: [{to: [{operation: {paths: ['/c*']}}]}]}
";
    let lines: Vec<_> =
        report(text).findings.0.iter().map(|f| f.position.as_ref().map(|p| (p.line, p.column))).collect();
    assert!(lines.is_sorted() && lines.len() == 5, "{lines:?}");
}

#[test]
fn aliases_are_codes_of_istio_for_codes_of_ours() {
    let ours = code::ALL.iter().map(|(code, _)| *code);
    let aliases: Vec<_> = ours.flat_map(code::aliases).collect();
    assert!(
        aliases.len() >= 8 && aliases.iter().all(|a| a.starts_with("IST0") && a.len() == 7),
        "{aliases:?}"
    );
    assert_eq!(code::aliases(code::UNREACHABLE_ROUTE), ["IST0130"]);
}
