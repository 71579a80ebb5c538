use palisade_policy::Finding;
use palisade_policy::finding::{Position, Severity, code};

use super::WireError;
use super::scalar::optional_text;
use crate::v1;

impl From<&Finding> for v1::Finding {
    fn from(finding: &Finding) -> Self {
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let position = finding.position.as_ref();
        Self {
            code: finding.code.to_owned(),
            severity: finding.severity.name().to_owned(),
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

impl TryFrom<v1::Finding> for Finding {
    type Error = WireError;

    /// A code that this version does not know becomes part of the message: the other side may be newer, and what
    /// it found is still worth reading.
    fn try_from(message: v1::Finding) -> Result<Self, WireError> {
        let severity = match message.severity.as_str() {
            "note" => Severity::Note,
            "warning" => Severity::Warning,
            "error" => Severity::Error,
            other => {
                let problem = format!("{other:?} is none of \"error\", \"warning\" and \"note\"");
                return Err(WireError::new("severity", problem));
            }
        };
        let (code, text) = match code::lookup(&message.code) {
            Some(code) => (code, message.message),
            None => (code::FOREIGN, format!("{}: {}", message.code, message.message)),
        };
        let number = |n: u32| usize::try_from(n).unwrap_or(usize::MAX);
        // Line 0 stands for "no position": lines count from 1.
        let position = (message.line > 0).then(|| Position {
            file: message.file,
            line: number(message.line),
            column: number(message.column),
        });
        let (object, help) = (optional_text(message.object), optional_text(message.help));
        Ok(Self { code, severity, position, object, path: message.path, message: text, help })
    }
}
