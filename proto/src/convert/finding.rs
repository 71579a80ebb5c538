use palisade_policy::Finding;
use palisade_policy::finding::Severity;

use crate::v1;

impl From<&Finding> for v1::Finding {
    fn from(finding: &Finding) -> Self {
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let position = finding.position.as_ref();
        Self {
            code: finding.code.to_owned(),
            severity: match finding.severity {
                Severity::Error => "error".to_owned(),
                Severity::Warning => "warning".to_owned(),
            },
            file: position.map_or_else(String::new, |p| p.file.clone()),
            line: position.map_or(0, |p| number(p.line)),
            column: position.map_or(0, |p| number(p.column)),
            object: finding.object.clone().unwrap_or_default(),
            path: finding.path.clone(),
            message: finding.message.clone(),
            help: finding.help.clone().unwrap_or_default(),
        }
    }
}
