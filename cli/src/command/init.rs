use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::exit::{Failure, Outcome};
use crate::output::print;

/// Write the objects every mesh starts with: nothing is allowed, and only with mutual TLS.
///
/// Writes mesh.yaml, default-deny.yaml and mtls-strict.yaml; refuses to overwrite any of them.
#[derive(Debug, clap::Args)]
pub(crate) struct Init {
    /// Directory to write to; made if it is not there.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

impl Init {
    pub(crate) fn run(self) -> Outcome {
        let paths: Vec<PathBuf> =
            palisade_demo::yaml::INIT.iter().map(|(name, _)| self.directory.join(name)).collect();
        if let Some(there) = paths.iter().find(|path| path.exists()) {
            let problem = anyhow::anyhow!(
                "{} exists and is not overwritten; name another directory or remove the file",
                there.display()
            );
            return Err(Failure::input(problem));
        }
        std::fs::create_dir_all(&self.directory)
            .with_context(|| format!("cannot make directory {}", self.directory.display()))?;
        for (path, (_, text)) in paths.iter().zip(palisade_demo::yaml::INIT) {
            write_new(path, text)?;
            print(&format!("wrote {}", path.display()))?;
        }
        print(&format!("next: palisade apply {}", self.directory.display()))?;
        Ok(())
    }
}

/// `create_new`: a file that appeared since the check is not overwritten either.
fn write_new(path: &Path, text: &str) -> Result<()> {
    std::fs::File::create_new(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))
}
