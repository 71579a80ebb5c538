use std::path::PathBuf;

use palisade_policy::suggest::{Seen, Suggester};

use crate::exit::{Failure, Outcome};
use crate::output::{note, print};
use crate::records;

/// Write least-privilege AuthorizationPolicies from decision records, for review.
///
/// They let in what was let in: the same callers, methods, ports and paths; segments of paths that are ids become `{*}`. Nothing
/// is applied. YAML on stdout, what was read on stderr.
#[derive(Debug, clap::Args)]
pub(crate) struct Suggest {
    /// Decision records of proxies, `-` for stdin. May be repeated; `;` separates several in the variable.
    #[arg(long, env = "PALISADE_LOG", required = true, value_name = "FILE", value_delimiter = ';')]
    log: Vec<PathBuf>,
}

impl Suggest {
    pub(crate) fn run(self) -> Outcome {
        let mut suggester = Suggester::default();
        let strange = records::each(&self.log, |record| suggester.add(record)).map_err(Failure::input)?;
        let policies = suggester.policies();
        if !policies.is_empty() {
            print(policies.trim_end())?;
        }
        let Seen { records, allowed, refused, others } = suggester.seen();
        let strange = strange.shown();
        let gap = if strange.is_empty() { "" } else { "\n" };
        note(&format!(
            "{records} records: {allowed} let in, {refused} refused, {others} of another kind (outbound, of an edge, or ended \
             before rules of access were asked){gap}{strange}"
        ))?;
        Ok(())
    }
}
