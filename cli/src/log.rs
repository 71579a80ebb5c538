//! Logs of the process itself, on stderr. Decision records go elsewhere (`--access-log`).

use std::io::IsTerminal;

use anyhow::Context as _;
use tracing_subscriber::EnvFilter;

use crate::exit::{Failure, Outcome};

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// What is logged: a level, or levels per module [default: info for servers, warn otherwise].
    #[arg(long, env = "PALISADE_LOG_LEVEL", global = true, value_name = "LEVEL")]
    log_level: Option<String>,
    /// How logs are written. auto: text on a terminal, JSON elsewhere.
    #[arg(long, env = "PALISADE_LOG_FORMAT", global = true, value_name = "FORMAT", default_value = "auto")]
    log_format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Auto,
    Text,
    Json,
}

pub(crate) fn start(options: &Options, server: bool) -> Outcome {
    let level = options.log_level.as_deref().unwrap_or(if server { "info" } else { "warn" });
    let filter = EnvFilter::try_new(level)
        .with_context(|| format!("--log-level {level:?} is no filter; write a level such as info or debug"))
        .map_err(Failure::input)?;
    let terminal = std::io::stderr().is_terminal();
    // tracing-subscriber escapes control characters of logged values in both formats.
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(terminal);
    let json = options.log_format == Format::Json || (options.log_format == Format::Auto && !terminal);
    if json {
        builder.json().flatten_event(true).with_current_span(false).init();
    } else {
        builder.with_target(false).init();
    }
    Ok(())
}
