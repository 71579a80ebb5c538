use std::path::PathBuf;

use palisade_identity::TrustDomain;
use palisade_policy::PolicySet;
use palisade_policy::difference::{DifferenceError, Replay, Replayer, compare};
use palisade_policy::document::SourceFile;

use crate::exit::{Failure, Outcome};
use crate::files;
use crate::output::diff::{render, render_replay};
use crate::output::{Format, print, print_findings_of, print_json};
use crate::policies;
use crate::records::{self, Strange};

/// Show who gains and who loses access when one set of policies takes the place of another.
///
/// Needs no control plane. Both sets judge a finite set of requests that stands for all: whatever either names, one that fits
/// each pattern, and one that nothing names. With --log, requests that were recorded are judged as well. Exit code 0, with --check 1 when somebody gains or loses; 2: documents or options
/// are wrong.
#[derive(Debug, clap::Args)]
pub(crate) struct Diff {
    /// File or directory (every .yaml and .yml in it) with all documents of the mesh as they are.
    #[arg(value_name = "OLD")]
    old: PathBuf,
    /// The same as they are to be.
    #[arg(value_name = "NEW")]
    new: PathBuf,
    /// Exit with 1 when somebody gains or loses access.
    #[arg(long, env = "PALISADE_CHECK")]
    check: bool,
    /// The mesh's own [default: the one that principals in NEW name].
    #[arg(long, env = "PALISADE_TRUST_DOMAIN", value_name = "DOMAIN")]
    trust_domain: Option<TrustDomain>,
    /// Decision records of proxies, `-` for stdin: which of these requests would be judged otherwise. May be repeated; `;`
    /// separates several in the variable.
    #[arg(long, env = "PALISADE_LOG", value_name = "FILE", value_delimiter = ';')]
    log: Vec<PathBuf>,
    #[arg(short, long, env = "PALISADE_OUTPUT", default_value = "text")]
    output: Format,
}

impl Diff {
    pub(crate) fn run(self) -> Outcome {
        let before = files::read(std::slice::from_ref(&self.old)).map_err(Failure::input)?;
        let after = files::read(std::slice::from_ref(&self.new)).map_err(Failure::input)?;
        let (old, new) = (policies::accepted(&before)?, policies::accepted(&after)?);
        let all: Vec<SourceFile> = before.into_iter().chain(after).collect();
        let domain = self.trust_domain.as_ref();
        let difference = compare(&old, &new, domain).map_err(|error| refused(error, &all))?;
        let replayed = match self.log.is_empty() {
            true => None,
            false => Some(self.replay(&old, &new, &all)?),
        };
        match self.output {
            Format::Json => {
                let replay = replayed.as_ref().map(|(replay, _)| replay);
                let told = serde_json::json!({"difference": difference, "replay": replay});
                print_json(&told)?;
            }
            Format::Text => {
                print(&render(&difference))?;
                if let Some((replay, strange)) = &replayed {
                    print(&render_replay(replay, &strange.shown()))?;
                }
            }
        }
        let changes =
            !difference.changes.is_empty() || replayed.is_some_and(|(replay, _)| !replay.changes.is_empty());
        if self.check && changes { Err(Failure::reported()) } else { Ok(()) }
    }

    fn replay(
        &self,
        old: &PolicySet,
        new: &PolicySet,
        files: &[SourceFile],
    ) -> Result<(Replay, Strange), Failure> {
        let replayer = Replayer::new(old, new, self.trust_domain.as_ref());
        let mut replayer = replayer.map_err(|error| refused(error, files))?;
        let strange = records::each(&self.log, |record| replayer.add(record)).map_err(Failure::input)?;
        Ok((replayer.finish().map_err(|error| refused(error, files))?, strange))
    }
}

fn refused(error: DifferenceError, files: &[SourceFile]) -> Failure {
    match &error {
        DifferenceError::Compile { findings, .. } => print_findings_of(findings, files),
        DifferenceError::Mesh { .. } => Failure::input(error),
    }
}
