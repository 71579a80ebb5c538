//! Findings with the line they are about.

use std::fmt::Write as _;
use std::io::Write as _;

use palisade_policy::document::SourceFile;
use palisade_policy::finding::code;
use palisade_policy::{Finding, Findings, Severity};

use super::printable;
use crate::exit::Failure;

/// A finding as it is shown, wherever it was found: here or by the control plane.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub(crate) struct Shown {
    pub(crate) code: String,
    pub(crate) severity: String,
    pub(crate) file: String,
    /// From 1; 0: no place.
    pub(crate) line: usize,
    pub(crate) column: usize,
    pub(crate) object: String,
    pub(crate) path: String,
    pub(crate) message: String,
    pub(crate) help: String,
    /// What Istio calls the code.
    pub(crate) aliases: &'static [&'static str],
}

impl From<&Finding> for Shown {
    fn from(finding: &Finding) -> Self {
        let place = finding.position.as_ref();
        Self {
            code: finding.code.to_owned(),
            severity: finding.severity.name().to_owned(),
            file: place.map(|p| p.file.clone()).unwrap_or_default(),
            line: place.map_or(0, |p| p.line),
            column: place.map_or(0, |p| p.column),
            object: finding.object.clone().unwrap_or_default(),
            path: finding.path.clone(),
            message: finding.message.clone(),
            help: finding.help.clone().unwrap_or_default(),
            aliases: code::aliases(finding.code),
        }
    }
}

impl From<&palisade_proto::v1::Finding> for Shown {
    fn from(f: &palisade_proto::v1::Finding) -> Self {
        Self {
            code: f.code.clone(),
            severity: f.severity.clone(),
            file: f.file.clone(),
            line: usize::try_from(f.line).unwrap_or(0),
            column: usize::try_from(f.column).unwrap_or(0),
            object: f.object.clone(),
            path: f.path.clone(),
            message: f.message.clone(),
            help: f.help.clone(),
            aliases: code::aliases(&f.code),
        }
    }
}

impl Shown {
    pub(crate) fn is_error(&self) -> bool {
        !self.is_warning() && !self.is_note()
    }

    pub(crate) fn is_warning(&self) -> bool {
        self.severity == Severity::Warning.name()
    }

    pub(crate) fn is_note(&self) -> bool {
        self.severity == Severity::Note.name()
    }

    /// Several lines: the problem, the place, the line with a caret, what to do.
    fn render(&self, files: &[SourceFile]) -> String {
        let mut text = format!("{}[{}]: {}", self.severity, self.code, self.message);
        if self.line > 0 {
            let _ok = write!(text, "\n  --> {}:{}:{}", self.file, self.line, self.column);
            let source = files.iter().find(|f| f.name == self.file);
            if let Some(line) = source.and_then(|f| f.text.lines().nth(self.line - 1)) {
                let number = self.line.to_string();
                let margin = " ".repeat(number.len());
                // One column for a tab, so that the caret stands right.
                let line = line.trim_end().replace('\t', " ");
                let (line, indent) = excerpt(&line, self.column.saturating_sub(1));
                let indent = " ".repeat(indent);
                let _ok = write!(text, "\n {margin} |\n {number} | {line}\n {margin} | {indent}^");
            }
        }
        let place = match (self.path.is_empty(), self.object.is_empty()) {
            (false, false) => format!("{} of {}", self.path, self.object),
            (false, true) => self.path.clone(),
            (true, false) => self.object.clone(),
            (true, true) => String::new(),
        };
        if !place.is_empty() {
            let _ok = write!(text, "\n   = at: {place}");
        }
        if !self.help.is_empty() {
            let _ok = write!(text, "\n   = help: {}", self.help);
        }
        printable(&text)
    }
}

/// Characters of a line that are shown: a line of some machine's making can have megabytes.
const EXCERPT_CHARS: usize = 160;

/// The part of a line around a column, and how far the column is from the part's beginning.
fn excerpt(line: &str, column: usize) -> (String, usize) {
    let column = column.min(line.chars().count());
    let start = if column < EXCERPT_CHARS { 0 } else { column - EXCERPT_CHARS / 2 };
    (line.chars().skip(start).take(EXCERPT_CHARS).collect(), column - start)
}

/// Prints the findings that refuse an input, and ends the command.
pub(crate) fn print_findings_of(findings: &Findings, files: &[SourceFile]) -> Failure {
    let shown: Vec<Shown> = findings.0.iter().map(Shown::from).collect();
    match print_findings(&shown, files) {
        Ok(_) => Failure::input_reported(),
        Err(closed) => closed.into(),
    }
}

/// Prints findings to stderr, with a count at the end. Says whether there is an error among them.
pub(crate) fn print_findings(findings: &[Shown], files: &[SourceFile]) -> std::io::Result<bool> {
    let number = |wanted: fn(&Shown) -> bool| findings.iter().filter(|f| wanted(f)).count();
    let (errors, warnings, notes) =
        (number(Shown::is_error), number(Shown::is_warning), number(Shown::is_note));
    let sorted = in_order(findings, files);
    let mut text = sorted.iter().map(|f| f.render(files)).collect::<Vec<_>>().join("\n\n");
    if !findings.is_empty() {
        let _ok = write!(text, "\n\n{}, {}", count(errors, "error"), count(warnings, "warning"));
        if notes > 0 {
            let _ok = write!(text, ", {}", count(notes, "note"));
        }
        writeln!(std::io::stderr().lock(), "{text}")?;
    }
    Ok(errors > 0)
}

/// By file as they were named, by line, by code: the same documents always give the same text.
pub(crate) fn in_order<'f>(findings: &'f [Shown], files: &[SourceFile]) -> Vec<&'f Shown> {
    let mut sorted: Vec<&Shown> = findings.iter().collect();
    sorted.sort_by(|a, b| {
        let place = |f: &Shown| (files.iter().position(|file| file.name == f.file), f.line, f.column);
        let what = |f: &Shown| (f.code.clone(), f.path.clone(), f.message.clone());
        place(a).cmp(&place(b)).then_with(|| what(a).cmp(&what(b)))
    });
    sorted
}

/// `1 hole`, `2 holes`.
pub(crate) fn count(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_of_a_long_line_what_is_around_the_column() {
        assert_eq!(excerpt("kind: X", 6), ("kind: X".to_owned(), 6));
        assert_eq!(excerpt("short", 900), ("short".to_owned(), 5));
        let long = format!("{}!{}", "a".repeat(5000), "b".repeat(5000));
        let (part, column) = excerpt(&long, 5000);
        assert_eq!((part.chars().count(), part.chars().nth(column)), (EXCERPT_CHARS, Some('!')));
    }

    #[test]
    fn shows_the_line_and_a_caret_under_the_column() {
        let files = [SourceFile { name: "a.yaml".into(), text: "kind: X\nspec:\n\tmethds: [GET]\n".into() }];
        let shown = Shown {
            code: "PAL0102".into(),
            severity: "error".into(),
            file: "a.yaml".into(),
            line: 3,
            column: 2,
            object: "AuthorizationPolicy fintech/ledger".into(),
            path: "spec.methds".into(),
            message: "unknown field \"methds\"".into(),
            help: "did you mean \"methods\"?".into(),
            aliases: &[],
        };
        let expected = "error[PAL0102]: unknown field \"methds\"\n  --> a.yaml:3:2\n   |\n 3 |  \
                        methds: [GET]\n   |  ^\n   = at: spec.methds of AuthorizationPolicy \
                        fintech/ledger\n   = help: did you mean \"methods\"?";
        assert_eq!(shown.render(&files), expected);
    }

    #[test]
    fn a_finding_without_a_place_is_one_line() {
        let shown = Shown {
            code: "PAL0001".into(),
            severity: "warning".into(),
            message: "m".into(),
            ..Shown::default()
        };
        assert_eq!(shown.render(&[]), "warning[PAL0001]: m");
        assert!(!shown.is_error());
    }

    #[test]
    fn a_place_beyond_the_text_shows_no_line() {
        let files = [SourceFile { name: "a".into(), text: "x".into() }];
        let shown = Shown { file: "a".into(), line: 9, column: 9, ..Shown::default() };
        assert!(shown.render(&files).ends_with("--> a:9:9"));
    }

    #[test]
    fn a_document_cannot_write_to_the_terminal() {
        let shown = Shown { message: "\u{1b}]0;x\u{7}".into(), ..Shown::default() };
        assert!(!shown.render(&[]).contains('\u{1b}'));
    }
}
