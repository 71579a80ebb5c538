use std::path::PathBuf;

use crate::exit::Outcome;

/// A certificate for the demo's edge, of a CA that is made for it.
#[derive(Debug, clap::Args)]
pub(crate) struct DemoCredentials {
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

impl DemoCredentials {
    pub(crate) fn run(self) -> Outcome {
        Ok(palisade_demo::prepare_credentials(&self.folder)?)
    }
}
