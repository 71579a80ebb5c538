//! The annotation `palisade.mesh/lint-ignore`: a finding that somebody has looked at, and why it may stay.

use std::collections::BTreeMap;

use super::{IGNORE_ANNOTATION, Ignored, Report, placed};
use crate::finding::problem::Problems;
use crate::finding::{Findings, code};
use crate::kind::Object;

/// Findings that the annotation ignores go to the ignored ones, all others to the findings.
pub(super) fn sort_out(object: &Object, findings: Findings, report: &mut Report) {
    let Some(text) = object.meta.annotations.get(IGNORE_ANNOTATION) else {
        report.findings.extend(findings);
        return;
    };
    let mut problems = Problems::default();
    let reasons = read(text, &mut problems);
    let mut used = Vec::new();
    for finding in findings.0 {
        match reasons.get(finding.code) {
            Some(reason) => {
                used.push(finding.code);
                report.ignored.push(Ignored { finding, reason: (*reason).to_owned() });
            }
            None => report.findings.push(finding),
        }
    }
    for code in reasons.keys().filter(|code| !used.contains(code)) {
        problems.note(code::UNUSED_IGNORE, path(), format!("there is no {code} here to ignore"));
        problems.help("take it out of the annotation");
    }
    report.findings.extend(placed(object, problems));
}

/// The reason for which findings with this code may stay.
pub(super) fn reason(object: &Object, code: &str) -> Option<String> {
    let text = object.meta.annotations.get(IGNORE_ANNOTATION)?;
    read(text, &mut Problems::default()).get(code).map(|reason| (*reason).to_owned())
}

fn path() -> String {
    format!("metadata.annotations.{IGNORE_ANNOTATION}")
}

/// Codes and reasons. What cannot be read ignores nothing.
fn read<'t>(text: &'t str, problems: &mut Problems) -> BTreeMap<&'static str, &'t str> {
    let mut reasons = BTreeMap::new();
    let mut wrong = |message: String, help: &str| {
        problems.warning(code::BAD_IGNORE, path(), message);
        problems.help(help);
    };
    if text.trim().is_empty() {
        wrong("the annotation is empty".into(), "write PAL3004: the reason, or take it out");
    }
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (written, reason) = line.split_once(':').unwrap_or((line, ""));
        let (written, reason) = (written.trim(), reason.trim());
        match code::lookup(written) {
            None => {
                wrong(format!("there is no finding {written:?}"), "write PAL3004: the reason, one to a line");
            }
            Some(code)
                if !code::is_of_meaning(code) || [code::BAD_IGNORE, code::UNUSED_IGNORE].contains(&code) =>
            {
                wrong(
                    format!("{code} cannot be ignored"),
                    "only findings from PAL3001 on, about what is well-formed",
                );
            }
            Some(code) if reason.is_empty() => {
                wrong(format!("{code} is ignored without a reason"), "write why, after a colon");
            }
            Some(code) => {
                reasons.insert(code, reason);
            }
        }
    }
    reasons
}
