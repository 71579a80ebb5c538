use std::path::PathBuf;

use palisade_policy::{Findings, PolicySet, document};

use crate::exit::{Failure, Outcome};
use crate::files;
use crate::output::{Shown, print, print_findings};

/// Check policy documents without a control plane.
///
/// Prints every problem with its file, line and column. Exit code 2 when there is an error among them;
/// warnings alone are accepted.
#[derive(Debug, clap::Args)]
pub(crate) struct Lint {
    /// Files, directories (every .yaml and .yml in them) or `-` for stdin.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// text: findings on stderr; json: an array on stdout.
    #[arg(short, long, env = "PALISADE_OUTPUT", default_value = "text")]
    output: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Text,
    Json,
}

impl Lint {
    pub(crate) fn run(self) -> Outcome {
        let files = files::read(&self.paths).map_err(Failure::input)?;
        let (count, findings) = check(&files);
        let shown: Vec<Shown> = findings.0.iter().map(Shown::from).collect();
        let errors = match self.output {
            Format::Text => print_findings(&shown, &files)?,
            Format::Json => {
                print(&serde_json::to_string_pretty(&shown)?)?;
                findings.has_errors()
            }
        };
        if errors {
            return Err(Failure::input_reported());
        }
        if self.output == Format::Text {
            print(&format!("{count} documents in {} files: no errors", files.len()))?;
        }
        Ok(())
    }
}

/// Reads the documents and checks them alone and against each other.
fn check(files: &[document::SourceFile]) -> (usize, Findings) {
    let (objects, mut findings) = document::parse(files);
    let count = objects.len();
    match PolicySet::new(objects, &[]) {
        Ok((_set, warnings)) => findings.extend(warnings),
        Err(errors) => findings.extend(errors),
    }
    (count, findings)
}
