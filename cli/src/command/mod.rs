//! The subcommands: one file each.

mod init;
mod lint;

use crate::exit::Outcome;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    Init(init::Init),
    Lint(lint::Lint),
}

impl Command {
    pub(crate) fn run(self) -> Outcome {
        match self {
            Self::Init(command) => command.run(),
            Self::Lint(command) => command.run(),
        }
    }

    /// Whether the process stays up and its log is read by machines.
    pub(crate) fn is_server(&self) -> bool {
        match self {
            Self::Init(_) | Self::Lint(_) => false,
        }
    }
}
