use std::path::PathBuf;

use palisade_demo::{Afterwards, On, Verdict};

use crate::exit::{Failure, Outcome};

/// Show a small mesh at work: real processes, certificates, policies, refusals with reasons.
///
/// Starts a control plane, an edge and five services with a sidecar each on loopback, plays scenes, then stays up
/// until Ctrl-C. Needs nothing and leaves nothing behind.
#[derive(Debug, clap::Args)]
pub(crate) struct Demo {
    /// Play the scenes and stop; exit code 1 when anything differs from what is expected.
    #[arg(long, env = "PALISADE_CHECK")]
    check: bool,
    /// Play the scenes on the containers of this project of Docker Compose instead (compose.yaml of the source), which
    /// are up and stay so. Needs the `docker` command.
    #[arg(long, env = "PALISADE_COMPOSE_PROJECT", value_name = "NAME", requires = "check")]
    compose_project: Option<String>,
    /// Play no scene: start the mesh, with a second instance of the ledger, write where everything is to this file
    /// (JSON), and stay up. `palisade rehearse --values FILE` breaks it meanwhile.
    #[arg(long, env = "PALISADE_READY_FILE", value_name = "FILE", conflicts_with_all = ["check", "compose_project"])]
    ready_file: Option<PathBuf>,
}

impl Demo {
    pub(crate) fn run(self) -> Outcome {
        if let Some(file) = &self.ready_file {
            return Ok(palisade_demo::serve(file)?);
        }
        let afterwards = if self.check { Afterwards::Stop } else { Afterwards::StayUp };
        let on = self.compose_project.map_or(On::Processes, On::ComposeProject);
        match palisade_demo::run(&on, afterwards)? {
            Verdict::Passed => Ok(()),
            Verdict::Interrupted if !self.check => Ok(()),
            // What differed has been printed with its scene.
            Verdict::Differed { .. } | Verdict::Interrupted => Err(Failure::reported()),
        }
    }
}
