mod document;
mod inject;
mod list;
mod options;
mod stop;
mod who;

use crate::exit::Outcome;

/// Faults on purpose: make them, see them, stop them.
#[derive(Debug, clap::Args)]
pub(crate) struct Fault {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Inject(Box<inject::Inject>),
    List(list::List),
    Stop(stop::Stop),
}

impl Fault {
    pub(crate) fn run(self) -> Outcome {
        match self.command {
            Command::Inject(command) => command.run(),
            Command::List(command) => command.run(),
            Command::Stop(command) => command.run(),
        }
    }
}
