use std::path::PathBuf;
use std::time::Duration;

use palisade_policy::readiness::{PortReadiness, Readiness, Verdict};
use palisade_proxy::settings::parse_duration;
use serde_json::json;

use crate::exit::{Failure, Outcome};
use crate::output::data::Format;
use crate::output::{or_dash, print, table};
use crate::records;

/// Mutual TLS in the mesh.
#[derive(Debug, clap::Args)]
pub(crate) struct Mtls {
    #[command(subcommand)]
    command: MtlsCommand,
}

#[derive(Debug, clap::Subcommand)]
enum MtlsCommand {
    Readiness(ReadinessOf),
}

/// Say who still calls in plaintext, hence whether STRICT would shut anybody out.
///
/// Reads the decision records of sidecars. A port is ready when calls with certificates were recorded for long enough, and
/// none in plaintext; what was not recorded is unknown, never ready. Exit code 0: every port is ready; 1: some are not.
#[derive(Debug, clap::Args)]
struct ReadinessOf {
    /// A log of decision records, as --access-log of a sidecar writes it; `-` for stdin. May be repeated; `;` separates
    /// several in the variable.
    #[arg(long, env = "PALISADE_LOG", required = true, value_name = "FILE", value_delimiter = ';')]
    log: Vec<PathBuf>,
    /// How long a port must have been recorded: the time between calls of its rarest caller.
    #[arg(long, env = "PALISADE_OBSERVED", value_name = "TIME", default_value = "24h", value_parser = parse_duration)]
    observed: Duration,
    #[arg(short, long, env = "PALISADE_OUTPUT", default_value = "table")]
    output: Format,
}

impl Mtls {
    pub(crate) fn run(self) -> Outcome {
        let MtlsCommand::Readiness(readiness) = self.command;
        readiness.run()
    }
}

impl ReadinessOf {
    fn run(self) -> Outcome {
        let mut readiness = Readiness::default();
        let strange = records::each(&self.log, |record| readiness.add(&record)).map_err(Failure::input)?;
        if strange.lines > 0 {
            tracing::warn!("{}", strange.shown());
        }
        let ports = readiness.ports(self.observed.as_secs());
        let table = || format!("{}\nA port without a record is not in the list: unknown.", rows(&ports));
        print(&self.output.render(table, || json!({ "ports": ports }))?)?;
        match !ports.is_empty() && ports.iter().all(|port| port.verdict == Verdict::Ready) {
            true => Ok(()),
            false => Err(Failure::reported()),
        }
    }
}

fn rows(ports: &[PortReadiness]) -> String {
    let head =
        ["STRICT", "SERVICE", "PORT", "MUTUAL TLS", "PLAINTEXT", "REFUSED", "OBSERVED", "CALLS IN PLAINTEXT"];
    table(
        head,
        ports.iter().map(|port| {
            let verdict = match port.verdict {
                Verdict::Ready => "ready",
                Verdict::NotReady => "NOT READY",
                Verdict::Unknown => "unknown",
            };
            let callers: Vec<String> = port
                .plaintext_callers
                .iter()
                .map(|(address, count)| format!("{address} ({count})"))
                .collect();
            [
                verdict.to_owned(),
                port.service.clone(),
                port.port.to_string(),
                port.mutual_tls.to_string(),
                port.plaintext.to_string(),
                port.plaintext_refused.to_string(),
                format!("{}h{:02}m", port.observed_seconds / 3600, port.observed_seconds / 60 % 60),
                or_dash(callers.join(" ")),
            ]
        }),
    )
}
