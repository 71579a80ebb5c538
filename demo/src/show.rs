//! How the demo looks in a terminal: 100 columns, colours only where they are seen.

use std::io::Write as _;

use anstyle::{AnsiColor, Style};

use crate::scene::{Report, Scene};

const WIDTH: usize = 100;
const LABEL_WIDTH: usize = 14;
/// An answer is shown up to here.
const VALUE_CHARS_MAX: usize = 400;

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const GREEN: Style = AnsiColor::Green.on_default().bold();
const RED: Style = AnsiColor::Red.on_default().bold();

/// Prints a line. anstream drops the styles where nobody sees them; a closed stdout is nobody's loss.
pub(crate) fn line(text: &str) {
    let _closed = writeln!(anstream::stdout().lock(), "{text}");
}

pub(crate) fn heading(text: &str) {
    line(&format!("{BOLD}{text}{BOLD:#}"));
}

pub(crate) fn note(text: &str) {
    line(&format!("{DIM}{text}{DIM:#}"));
}

pub(crate) fn scene(number: usize, scene: &Scene, outcome: &anyhow::Result<Report>) {
    let passed = outcome.as_ref().is_ok_and(Report::passed);
    let verdict = if passed { format!("{GREEN}PASS{GREEN:#}") } else { format!("{RED}FAIL{RED:#}") };
    line(&format!("\n{verdict} {BOLD}{number}. {}{BOLD:#}", scene.title));
    match outcome {
        Ok(report) => steps(report),
        Err(error) => entry("failed", &format!("{error:#}")),
    }
}

fn steps(report: &Report) {
    for step in &report.steps {
        if step.sent.is_empty() {
            entry("seen", &step.got);
        } else {
            entry("sent", &step.sent);
            entry("came back", &step.got);
        }
        if !step.decided_by.is_empty() {
            entry("decided by", &step.decided_by);
        }
    }
    for expectation in report.expectations.iter().filter(|e| !e.holds()) {
        let (expected, got) = (&expectation.expected, &expectation.got);
        entry("differs", &format!("{}: expected {expected}, got {got}", expectation.what));
    }
}

/// A label and a text, wrapped and indented.
fn entry(label: &str, text: &str) {
    for (i, part) in wrap(&shorten(text), WIDTH - LABEL_WIDTH).iter().enumerate() {
        let label = if i == 0 { label } else { "" };
        line(&format!("  {DIM}{label:<width$}{DIM:#}{part}", width = LABEL_WIDTH - 2));
    }
}

/// One line of printable characters, not too long.
fn shorten(text: &str) -> String {
    let clean = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut short: String = clean.clone().take(VALUE_CHARS_MAX).collect();
    if clean.count() > VALUE_CHARS_MAX {
        short.push_str("...");
    }
    short
}

/// Breaks at spaces; a word that is longer than a line fills what is left and goes on in the next.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let used = lines.last().map_or(0, |line| line.chars().count());
        let length = word.chars().count();
        if used > 0 && used + 1 + length > width && length <= width {
            lines.push(String::new());
        } else if used > 0 {
            push(&mut lines, ' ', width);
        }
        word.chars().for_each(|c| push(&mut lines, c, width));
    }
    lines
}

fn push(lines: &mut Vec<String>, c: char, width: usize) {
    match lines.last_mut() {
        Some(line) if line.chars().count() < width => line.push(c),
        _ => lines.push(c.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wraps_at_spaces_and_inside_long_words() {
        assert_eq!(wrap("a bb ccc", 4), ["a bb", "ccc"]);
        assert_eq!(wrap("a bcdefgh i", 4), ["a bc", "defg", "h i"]);
        assert_eq!(wrap("", 4), [""]);
    }

    #[test]
    fn shows_no_control_characters_and_no_endless_answers() {
        assert_eq!(shorten("a\u{1b}[31mb\nc"), "a [31mb c");
        assert_eq!(shorten(&"x".repeat(500)).len(), VALUE_CHARS_MAX + 3);
    }
}
