//! The subcommands: one file each.

mod control_plane;
mod init;
mod lint;
mod proxy;

use crate::exit::Outcome;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    ControlPlane(control_plane::ControlPlane),
    Proxy(Box<proxy::Proxy>),
    Init(init::Init),
    Lint(lint::Lint),
}

impl Command {
    pub(crate) fn run(self) -> Outcome {
        match self {
            Self::ControlPlane(command) => command.run(),
            Self::Proxy(command) => command.run(),
            Self::Init(command) => command.run(),
            Self::Lint(command) => command.run(),
        }
    }

    /// Whether the process stays up and its log is read by machines.
    pub(crate) fn is_server(&self) -> bool {
        match self {
            Self::ControlPlane(_) | Self::Proxy(_) => true,
            Self::Init(_) | Self::Lint(_) => false,
        }
    }
}
