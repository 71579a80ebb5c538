use std::path::PathBuf;
use std::time::SystemTime;

use palisade_policy::lint::{self, Report};
use palisade_policy::{PolicySet, document};

use crate::exit::{Failure, Outcome};
use crate::files;
use crate::output::{Shown, count, in_order, print, print_findings, print_json, sarif};

/// Check policy documents without a control plane: their form, and what they lead to.
///
/// Prints every problem with its file, line and column. Exit code 2 when there is an error among them, or with
/// --deny-warnings a warning.
#[derive(Debug, clap::Args)]
pub(crate) struct Lint {
    /// Files, directories (every .yaml and .yml in them) or `-` for stdin.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// text: findings on stderr; json: an array on stdout; sarif: SARIF 2.1.0 on stdout.
    #[arg(short, long, env = "PALISADE_OUTPUT", default_value = "text")]
    output: Format,
    /// Exit with 2 for warnings too. Notes never fail.
    #[arg(long, env = "PALISADE_DENY_WARNINGS")]
    deny_warnings: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Text,
    Json,
    Sarif,
}

impl Lint {
    pub(crate) fn run(self) -> Outcome {
        let files = files::read(&self.paths).map_err(Failure::input)?;
        let (documents, report) = check(&files);
        let shown: Vec<Shown> = report.findings.0.iter().map(Shown::from).collect();
        match self.output {
            Format::Text => {
                print_findings(&shown, &files)?;
            }
            Format::Json => print_json(&in_order(&shown, &files))?,
            Format::Sarif => {
                let accepted: Vec<Shown> = report.ignored.iter().map(|i| Shown::from(&i.finding)).collect();
                let reasons = report.ignored.iter().map(|ignored| Some(ignored.reason.as_str()));
                let open = in_order(&shown, &files).into_iter().map(|finding| (finding, None));
                let results: Vec<_> = open.chain(accepted.iter().zip(reasons)).collect();
                print_json(&sarif::log(&results, &std::env::current_dir()?))?;
            }
        }
        let refused = |f: &Shown| f.is_error() || (self.deny_warnings && f.is_warning());
        if shown.iter().any(refused) {
            return Err(Failure::input_reported());
        }
        if self.output == Format::Text {
            let ignored = match report.ignored.len() {
                0 => String::new(),
                ignored => format!(", {ignored} ignored"),
            };
            let (documents, files) = (count(documents, "document"), count(files.len(), "file"));
            print(&format!("{documents} in {files}: no errors{ignored}"))?;
        }
        Ok(())
    }
}

/// Reads the documents and checks them alone, against each other, and for what they lead to. What a set means that
/// is not accepted is anybody's guess, so the last is left out then.
fn check(files: &[document::SourceFile]) -> (usize, Report) {
    let document::Parsed { objects, tests, rehearsals, mut findings } = document::parse_all(files);
    let count = objects.len() + tests.len() + rehearsals.len();
    let malformed = findings.has_errors();
    match PolicySet::new(objects, &[]) {
        Ok((set, warnings)) => {
            findings.extend(warnings);
            let mut report =
                if malformed { Report::default() } else { lint::lint(set.objects(), SystemTime::now()) };
            findings.extend(std::mem::take(&mut report.findings));
            (count, Report { findings, ..report })
        }
        Err(errors) => {
            findings.extend(errors);
            (count, Report { findings, ..Report::default() })
        }
    }
}
