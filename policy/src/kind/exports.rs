//! `exportTo`: for callers of which namespaces an object is.

use crate::finding::code;
use crate::finding::problem::Problems;

pub(crate) fn check(export_to: &[String], problems: &mut Problems) {
    for (i, value) in export_to.iter().enumerate() {
        if value != "." && value != "*" {
            let path = format!("spec.exportTo[{i}]");
            problems.error(code::BAD_EXPORT, path, format!("{value:?} is not taken in exportTo"));
            problems.help("write \".\" for this namespace only, or \"*\" for all");
        }
    }
}

/// Whether an object of `own` is for callers of `namespace`. Nothing written: for all.
pub(crate) fn reach(export_to: &[String], own: &str, namespace: &str) -> bool {
    own == namespace || export_to.is_empty() || export_to.iter().any(|value| value == "*")
}
