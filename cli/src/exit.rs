//! How a run ends: the exit code, and one message with all causes.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

use crate::output::printable;

pub(crate) const FAILED: u8 = 1;
pub(crate) const BAD_INPUT: u8 = 2;
/// Of a rehearsal: nothing was done, so nothing was learnt.
const NOT_BEGUN: u8 = 3;

/// Why a command did not do what was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    /// What, where, what to do. `None`: all has been said already (findings, a table of scenes).
    error: Option<anyhow::Error>,
}

pub(crate) type Outcome = Result<(), Failure>;

impl Failure {
    /// The operator's input is wrong: another try with the same words ends the same.
    pub(crate) fn input(error: impl Into<anyhow::Error>) -> Self {
        Self { code: BAD_INPUT, error: Some(error.into()) }
    }

    /// The input is wrong and every problem has been printed.
    pub(crate) fn input_reported() -> Self {
        Self { code: BAD_INPUT, error: None }
    }

    /// The run failed and every problem has been printed.
    pub(crate) fn reported() -> Self {
        Self { code: FAILED, error: None }
    }

    /// For those who go on with something else.
    pub(crate) fn into_error(self) -> anyhow::Error {
        self.error.unwrap_or_else(|| anyhow::anyhow!("it failed, and has said why"))
    }

    /// What was to be tried was not begun, and the reason has been printed.
    pub(crate) fn not_begun() -> Self {
        Self { code: NOT_BEGUN, error: None }
    }

    pub(crate) fn report(self) -> ExitCode {
        if let Some(error) = &self.error {
            // Nothing can be said any more when stderr is closed.
            let _closed = writeln!(std::io::stderr(), "error: {}", chain(error));
        }
        ExitCode::from(self.code)
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { code: FAILED, error: Some(error.into()) }
    }
}

/// The error and its causes in one text. A cause whose words its parent has said already is left out.
fn chain(error: &anyhow::Error) -> String {
    let mut text = printable(&error.to_string());
    for cause in error.chain().skip(1) {
        let cause = printable(&cause.to_string());
        if !text.contains(&cause) {
            let colon = if text.ends_with('?') { "" } else { ":" };
            let _infallible = write!(text, "{colon} {cause}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use anyhow::{Context as _, anyhow};

    use super::*;

    #[test]
    fn says_each_cause_once() {
        let error = anyhow!("no such file").context("roots.pem: no such file").context("cannot connect");
        assert_eq!(chain(&error), "cannot connect: roots.pem: no such file");
        let plain: anyhow::Result<()> = Err(anyhow!("b")).context("a");
        assert_eq!(chain(&plain.unwrap_err()), "a: b");
        let asked: anyhow::Result<()> = Err(anyhow!("b")).context("is it there?");
        assert_eq!(chain(&asked.unwrap_err()), "is it there? b");
    }

    #[test]
    fn lets_no_escape_sequence_through() {
        assert_eq!(chain(&anyhow!("bad \u{1b}[31mname\u{7}")), "bad \\u{1b}[31mname\\u{7}");
    }
}
