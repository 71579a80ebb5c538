//! Findings before they know their file: what the constructors of a kind report, whether the spec came from YAML or
//! by wire.

use super::{Finding, Findings, Position, Severity};

/// A finding without a place.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    pub(crate) code: &'static str,
    pub(crate) severity: Severity,
    pub(crate) path: String,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Problems(Vec<Problem>);

impl Problems {
    pub(crate) fn error(&mut self, code: &'static str, path: impl Into<String>, message: impl Into<String>) {
        self.push(code, Severity::Error, path.into(), message.into());
    }

    pub(crate) fn warning(
        &mut self,
        code: &'static str,
        path: impl Into<String>,
        message: impl Into<String>,
    ) {
        self.push(code, Severity::Warning, path.into(), message.into());
    }

    pub(crate) fn note(&mut self, code: &'static str, path: impl Into<String>, message: impl Into<String>) {
        self.push(code, Severity::Note, path.into(), message.into());
    }

    /// Says what to do about the problem reported last.
    pub(crate) fn help(&mut self, help: impl Into<String>) {
        if let Some(last) = self.0.last_mut() {
            last.help = Some(help.into());
        }
    }

    /// Takes those of a spec that stands below another path.
    pub(crate) fn extend_below(&mut self, path: &str, found: Self) {
        self.0.extend(found.0.into_iter().map(|problem| {
            let rest = problem.path.strip_prefix("spec").unwrap_or(&problem.path);
            Problem { path: format!("{path}{rest}"), ..problem }
        }));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.0.iter().any(|p| p.severity == Severity::Error)
    }

    /// Gives each problem the place that `locate` finds for its path.
    pub(crate) fn place(
        self,
        object: Option<&str>,
        locate: impl Fn(&str) -> Option<Position>,
        findings: &mut Findings,
    ) {
        for problem in self.0 {
            let position = locate(&problem.path);
            findings.push(Finding {
                code: problem.code,
                severity: problem.severity,
                position,
                object: object.map(Into::into),
                path: problem.path,
                message: problem.message,
                help: problem.help,
            });
        }
    }

    fn push(&mut self, code: &'static str, severity: Severity, path: String, message: String) {
        self.0.push(Problem { code, severity, path, message, help: None });
    }
}

/// `did you mean ...?`, where one of `known` is near enough to `given`.
pub(crate) fn did_you_mean<'k>(given: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    /// Below this, suggestions are noise (Jaro-Winkler, 0 to 1).
    const NEAR: f64 = 0.8;
    let lower = given.to_ascii_lowercase();
    known
        .into_iter()
        .map(|k| (strsim::jaro_winkler(&lower, &k.to_ascii_lowercase()), k))
        .filter(|(score, _)| *score >= NEAR)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, k)| k)
}
