mod reported;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::anyhow;
use palisade_policy::readiness::reported::Span;
use palisade_policy::readiness::{PortReadiness, Readiness, Verdict};
use palisade_proxy::settings::parse_duration;
use serde_json::{Value, json};

use crate::admin;
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
/// By what sidecars report to the control plane (--server), or by their decision records (--log). A port is ready when calls with
/// certificates were seen for long enough, and none in plaintext; what was not seen is unknown, never ready. Exit code 0: every
/// port is ready; 1: some are not.
#[derive(Debug, clap::Args)]
struct ReadinessOf {
    /// A log of decision records, as --access-log of a sidecar writes it; `-` for stdin. May be repeated; `;` separates
    /// several in the variable. No control plane is asked then.
    #[arg(long, env = "PALISADE_LOG", value_name = "FILE", value_delimiter = ';')]
    log: Vec<PathBuf>,
    #[command(flatten)]
    tell: Tell,
    #[command(flatten)]
    admin: admin::Optional,
}

/// How it is judged and printed.
#[derive(Debug, clap::Args)]
struct Tell {
    /// How long a port must have been watched: the time between calls of its rarest caller. From reports, plaintext that is
    /// longer ago counts no more.
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
        if !self.log.is_empty() {
            return self.recorded();
        }
        match self.admin.given() {
            Some(admin) => reported::run(&admin, &self.tell),
            None => Err(Failure::input(anyhow!(
                "neither records nor a control plane are given; name logs with --log, or the control plane with --server and \
                 --operator-dir"
            ))),
        }
    }

    fn recorded(&self) -> Outcome {
        let mut readiness = Readiness::default();
        let strange = records::each(&self.log, |record| readiness.add(&record)).map_err(Failure::input)?;
        if strange.lines > 0 {
            tracing::warn!("{}", strange.shown());
        }
        let ports = readiness.ports(self.tell.observed.as_secs());
        let table = || format!("{}\nA port without a record is not in the list: unknown.", rows(&ports));
        self.tell.print(table, || json!({ "ports": ports }), ports.iter().map(|port| port.verdict))
    }
}

impl Tell {
    /// Prints the ports; a failure unless there are some and all are ready.
    fn print(
        &self,
        table: impl FnOnce() -> String,
        data: impl FnOnce() -> Value,
        verdicts: impl ExactSizeIterator<Item = Verdict>,
    ) -> Outcome {
        print(&self.output.render(table, data)?)?;
        let some = verdicts.len() > 0;
        match some && { verdicts }.all(|verdict| verdict == Verdict::Ready) {
            true => Ok(()),
            false => Err(Failure::reported()),
        }
    }
}

fn shown(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Ready => "ready",
        Verdict::NotReady => "NOT READY",
        Verdict::Unknown => "unknown",
    }
}

fn rows(ports: &[PortReadiness]) -> String {
    let head =
        ["STRICT", "SERVICE", "PORT", "MUTUAL TLS", "PLAINTEXT", "REFUSED", "OBSERVED", "CALLS IN PLAINTEXT"];
    table(
        head,
        ports.iter().map(|port| {
            let callers: Vec<String> = port
                .plaintext_callers
                .iter()
                .map(|(address, count)| format!("{address} ({count})"))
                .collect();
            [
                shown(port.verdict).to_owned(),
                port.service.clone(),
                port.port.to_string(),
                port.mutual_tls.to_string(),
                port.plaintext.to_string(),
                port.plaintext_refused.to_string(),
                Span(port.observed_seconds).to_string(),
                or_dash(callers.join(" ")),
            ]
        }),
    )
}
