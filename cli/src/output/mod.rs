//! What is printed for the operator.

pub(crate) mod data;
pub(crate) mod describe;
pub(crate) mod diff;
pub(crate) mod explain;
pub(crate) mod fault;
mod findings;
pub(crate) mod junit;
pub(crate) mod plan;
pub(crate) mod posture;
pub(crate) mod push;
pub(crate) mod sarif;
mod table;
pub(crate) mod terminal;
pub(crate) mod test;

pub(crate) use findings::{Shown, count, in_order, print_findings, print_findings_of};
pub(crate) use table::{or_dash, table};

use std::io::Write;

use serde::Serialize;

/// How an answer is printed that is read as a whole; for lists see `data`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    Text,
    Json,
}

/// The text with control characters spelled out: values from outside must not move the cursor of a terminal.
/// Line feeds stay.
pub(crate) fn printable(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        // Bidirectional controls reorder what is shown without being control characters by category.
        let bidi = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if (c.is_control() && c != '\n') || bidi {
            safe.extend(c.escape_unicode());
        } else {
            safe.push(c);
        }
    }
    safe
}

/// Prints one text to stdout with a line feed. A closed pipe (`| head`) is no failure.
pub(crate) fn print(text: &str) -> std::io::Result<()> {
    let written = writeln!(std::io::stdout().lock(), "{text}");
    match written {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Prints the answer as data for programs.
pub(crate) fn print_json(data: &impl Serialize) -> std::io::Result<()> {
    print(&serde_json::to_string_pretty(data)?)
}

/// Prints what is beside the answer to stderr, so that stdout can go into a file.
pub(crate) fn note(text: &str) -> std::io::Result<()> {
    writeln!(std::io::stderr().lock(), "{}", printable(text))
}
