//! Findings as a person reads them: the line they are about, and a caret below it.

use std::fmt::Write;

use super::{Finding, Findings, Position, Severity};
use crate::document::SourceFile;

/// The longest part of a source line that is shown, in characters.
const SHOWN_CHARS_MAX: usize = 160;

impl Findings {
    /// All findings with the source lines they are about, in the order of files and lines.
    pub fn render(&self, files: &[SourceFile]) -> String {
        let mut sorted: Vec<&Finding> = self.0.iter().collect();
        sorted.sort_by_key(|f| {
            let file = f.position.as_ref().and_then(|p| files.iter().position(|s| s.name == p.file));
            let place = f.position.as_ref().map(|p| (p.line, p.column));
            (file.unwrap_or(usize::MAX), place)
        });
        let mut out = String::new();
        for finding in sorted {
            render(&mut out, finding, files);
        }
        out
    }

    /// `2 errors, 1 warning`, and notes where there are some.
    pub fn summary(&self) -> String {
        let count = |severity| self.0.iter().filter(|f| f.severity == severity).count();
        let (errors, warnings, notes) =
            (count(Severity::Error), count(Severity::Warning), count(Severity::Note));
        let plural = |n: usize| if n == 1 { "" } else { "s" };
        let mut text = format!("{errors} error{}, {warnings} warning{}", plural(errors), plural(warnings));
        if notes > 0 {
            text.push_str(&format!(", {notes} note{}", plural(notes)));
        }
        text
    }
}

fn render(out: &mut String, finding: &Finding, files: &[SourceFile]) {
    let severity = finding.severity.name();
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{severity}[{}]: {}", finding.code, printable(&finding.message));
    if let Some(position) = &finding.position {
        let _ = writeln!(out, "  --> {position}");
        source_line(out, position, files);
    }
    if let Some(object) = &finding.object {
        let _ = writeln!(out, "   = in {}", printable(object));
    }
    if !finding.path.is_empty() {
        let _ = writeln!(out, "   = at {}", printable(&finding.path));
    }
    if let Some(help) = &finding.help {
        let _ = writeln!(out, "   = help: {}", printable(help));
    }
    out.push('\n');
}

fn source_line(out: &mut String, position: &Position, files: &[SourceFile]) {
    let Some(file) = files.iter().find(|f| f.name == position.file) else { return };
    let Some(line) = file.text.lines().nth(position.line.saturating_sub(1)) else { return };
    let number = position.line.to_string();
    let gutter = " ".repeat(number.len());
    let shown: String = printable(line).chars().take(SHOWN_CHARS_MAX).collect();
    let _ = writeln!(out, " {gutter} |\n {number} | {shown}");
    let before = position.column.saturating_sub(1);
    if before <= shown.chars().count() {
        let _ = writeln!(out, " {gutter} | {}^", " ".repeat(before));
    }
}

/// Control characters could move a terminal's cursor; one character for one keeps the caret in place.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
