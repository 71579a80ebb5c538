//! Findings in SARIF 2.1.0 (OASIS), which code hosts show beside the lines of a change.

use std::path::{Component, Path, PathBuf};

use palisade_policy::finding::code;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::Shown;

const SCHEMA: &str =
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";
/// The page that explains every code; rules say what it says.
const REFERENCE: &str = include_str!("../../../docs/reference/findings.md");
/// RFC 3986 section 3.3: what stands in a path as it is.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// A result and, where an annotation accepts it, why.
pub(crate) type Result<'f> = (&'f Shown, Option<&'f str>);

/// One run. `here` is the working directory, which places are relative to.
pub(crate) fn log(results: &[Result<'_>], here: &Path) -> Value {
    let mut codes: Vec<&str> = results.iter().map(|(finding, _)| finding.code.as_str()).collect();
    codes.sort_unstable();
    codes.dedup();
    let rules: Vec<Value> = codes.iter().map(|code| rule(code)).collect();
    let results = results.iter().map(|(finding, reason)| result(finding, *reason, &codes, here));
    json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": {
                "driver": {
                    "name": "palisade lint",
                    "semanticVersion": env!("CARGO_PKG_VERSION"),
                    "rules": rules,
                },
            },
            "columnKind": "unicodeCodePoints",
            "results": results.collect::<Vec<_>>(),
        }],
    })
}

fn rule(code: &str) -> Value {
    let title = code::title(code).unwrap_or("A finding of another version of Palisade");
    let explained = REFERENCE.lines().find_map(|line| {
        let row = line.strip_prefix(&format!("| {code} | {title} | "))?;
        Some(row.trim_end_matches(['|', ' ']))
    });
    let mut tags = vec!["security"];
    tags.extend(code::aliases(code));
    json!({
        "id": code,
        "shortDescription": { "text": title },
        "help": { "text": explained.unwrap_or(title) },
        "properties": { "tags": tags },
    })
}

fn result(finding: &Shown, reason: Option<&str>, codes: &[&str], here: &Path) -> Value {
    let level = match finding {
        f if f.is_note() => "note",
        f if f.is_warning() => "warning",
        _ => "error",
    };
    let help = match finding.help.as_str() {
        "" => String::new(),
        help => format!("\nHelp: {help}"),
    };
    let mut out = json!({
        "ruleId": finding.code,
        "ruleIndex": codes.binary_search(&finding.code.as_str()).unwrap_or_default(),
        "level": level,
        "message": { "text": format!("{}{help}", finding.message) },
        "locations": location(finding, here).map(|l| vec![l]).unwrap_or_default(),
    });
    if let (Some(reason), Some(members)) = (reason, out.as_object_mut()) {
        let suppression = json!([{ "kind": "inSource", "justification": reason }]);
        members.insert("suppressions".into(), suppression);
    }
    out
}

fn location(finding: &Shown, here: &Path) -> Option<Value> {
    let name = match (finding.object.is_empty(), finding.path.is_empty()) {
        (false, false) => format!("{} {}", finding.object, finding.path),
        (false, true) => finding.object.clone(),
        (true, _) => finding.path.clone(),
    };
    let logical = (!name.is_empty()).then(|| json!([{ "fullyQualifiedName": name, "kind": "object" }]));
    // What came by stdin has no place that anybody could open.
    let physical = (finding.line > 0 && !finding.file.starts_with('<')).then(|| {
        json!({
            "artifactLocation": artifact(Path::new(&finding.file), here),
            "region": { "startLine": finding.line, "startColumn": finding.column.max(1) },
        })
    });
    let mut out = serde_json::Map::new();
    out.extend(physical.map(|value| ("physicalLocation".to_owned(), value)));
    out.extend(logical.map(|value| ("logicalLocations".to_owned(), value)));
    (!out.is_empty()).then_some(Value::Object(out))
}

/// Relative to the working directory where that is possible, as uploads are resolved against a checkout.
fn artifact(file: &Path, here: &Path) -> Value {
    let full = plain(&here.join(file));
    let encode = |path: &Path| utf8_percent_encode(&path.display().to_string(), PATH).to_string();
    match full.strip_prefix(here) {
        Ok(relative) => json!({ "uri": encode(relative), "uriBaseId": "%SRCROOT%" }),
        Err(_elsewhere) => json!({ "uri": format!("file://{}", encode(&full)) }),
    }
}

/// Without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                out.pop();
            }
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(code: &str, severity: &str, file: &str, line: usize) -> Shown {
        Shown {
            code: code.into(),
            severity: severity.into(),
            file: file.into(),
            line,
            column: 7,
            object: "VirtualService bank/api".into(),
            path: "spec.http[0]".into(),
            message: "m".into(),
            help: "h".into(),
            aliases: &[],
        }
    }

    /// What the specification (sections 3.13, 3.14, 3.19, 3.27, 3.28, 3.35, 3.49) requires, and what hosts read.
    #[test]
    fn has_the_members_that_the_standard_requires() {
        let findings = [
            finding("PAL3006", "warning", "policies/a b.yaml", 3),
            finding("PAL0008", "error", "/elsewhere/x.yaml", 1),
            finding("PAL3104", "note", "<stdin>", 1),
        ];
        let results: Vec<Result<'_>> =
            vec![(&findings[0], None), (&findings[1], None), (&findings[2], Some("all public"))];
        let log = log(&results, Path::new("/work"));
        assert_eq!((&log["version"], log["runs"].as_array().unwrap().len()), (&json!("2.1.0"), 1));
        let run = &log["runs"][0];
        assert_eq!(run["tool"]["driver"]["name"], "palisade lint");
        let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
        assert_eq!(
            rules.iter().map(|r| r["id"].as_str().unwrap()).collect::<Vec<_>>(),
            ["PAL0008", "PAL3006", "PAL3104"]
        );
        for rule in rules {
            assert!(rule["shortDescription"]["text"].as_str().unwrap().len() > 5, "{rule}");
            let help = rule["help"]["text"].as_str().unwrap();
            assert!(
                help != rule["shortDescription"]["text"].as_str().unwrap() && !help.contains('|'),
                "{rule}"
            );
        }
        assert_eq!(rules[1]["properties"]["tags"], json!(["security", "IST0130"]));
        for result in run["results"].as_array().unwrap() {
            let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
            assert_eq!(rules[index]["id"], result["ruleId"]);
            assert_eq!(result["message"]["text"], "m\nHelp: h");
            assert!(["note", "warning", "error"].contains(&result["level"].as_str().unwrap()));
        }
        let place = |i: usize| &run["results"][i]["locations"][0]["physicalLocation"];
        assert_eq!(
            *place(0),
            json!({
                "artifactLocation": { "uri": "policies/a%20b.yaml", "uriBaseId": "%SRCROOT%" },
                "region": { "startLine": 3, "startColumn": 7 },
            })
        );
        assert_eq!(place(1)["artifactLocation"], json!({ "uri": "file:///elsewhere/x.yaml" }));
        assert!(place(2).is_null());
        let suppressions = |i: usize| &run["results"][i]["suppressions"];
        assert!(suppressions(0).is_null());
        assert_eq!(*suppressions(2), json!([{ "kind": "inSource", "justification": "all public" }]));
    }

    #[test]
    fn a_place_is_relative_to_where_lint_runs() {
        let rows = [
            ("a.yaml", "a.yaml"),
            ("./a.yaml", "a.yaml"),
            ("b/../a.yaml", "a.yaml"),
            ("/work/é.yaml", "%C3%A9.yaml"),
            ("../other/a.yaml", "file:///other/a.yaml"),
        ];
        for (file, uri) in rows {
            assert_eq!(artifact(Path::new(file), Path::new("/work"))["uri"], uri, "{file}");
        }
    }

    #[test]
    fn nothing_found_is_a_run_without_results() {
        let log = log(&[], Path::new("/work"));
        assert_eq!(log["runs"][0]["results"], json!([]));
        assert_eq!(log["runs"][0]["tool"]["driver"]["rules"], json!([]));
    }
}
