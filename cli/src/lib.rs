//! The `palisade` command: reads the command line, calls the libraries, prints.

mod admin;
mod command;
mod describe;
mod exit;
mod files;
mod log;
mod output;
mod parent;
mod plan;
mod policies;
mod records;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use command::Command;
use exit::Outcome;

/// Zero-trust service mesh without Kubernetes: sidecar, control plane and operator's tool.
#[derive(Debug, Parser)]
#[command(name = "palisade", version, disable_help_subcommand = true, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    log: log::Options,
    /// Stop, as at SIGTERM, when stdin ends: for a parent that must not leave this process behind.
    #[arg(long, env = "PALISADE_STOP_WITH_STDIN", hide = true)]
    stop_with_stdin: bool,
    #[command(subcommand)]
    command: Command,
}

/// Runs the process: exit code 0 done, 1 failed at run time, 2 bad usage or bad input.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let code = u8::try_from(error.exit_code()).unwrap_or(exit::BAD_INPUT);
            // Nothing can be said any more when stdout and stderr are closed.
            let _closed = error.print();
            return ExitCode::from(code);
        }
    };
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run(cli: Cli) -> Outcome {
    log::start(&cli.log, cli.command.is_server())?;
    if cli.stop_with_stdin {
        parent::stop_with_stdin()?;
    }
    cli.command.run()
}

/// The definition of the command line, for documents and their tests.
pub fn definition() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests;
