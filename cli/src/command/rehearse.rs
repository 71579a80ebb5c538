mod control_plane;

use std::fs::File;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context as _, Result, anyhow, bail};
use palisade_policy::document::{self, SourceFile};
use palisade_policy::rehearsal::{Rehearsal, Unfilled, Values};
use palisade_rehearsal::Stage;
use palisade_rehearsal::report::{self, Report, Verdict};
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use control_plane::ControlPlane;

use crate::exit::{Failure, Outcome};
use crate::files;
use crate::output::{Format, note, print, print_findings_of, print_json, printable};

/// Of addresses and ids.
const VALUES_BYTES_MAX: u64 = 1024 * 1024;

/// Break something on purpose, as a Rehearsal says it, and see what holds.
///
/// Sends requests, or watches those that are there; breaks one thing after the other, and mends it; mends everything at once
/// when its guard breaks, and at Ctrl-C. Exit code 0: everything held; 1: something did not, or it ended early; 2: documents or
/// options are wrong; 3: it did not begin, and nothing was broken: the steady state does not hold, or cannot be looked at.
#[derive(Debug, clap::Args)]
pub(crate) struct Rehearse {
    /// A file with one Rehearsal, or `-` for stdin.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// What stands for ${NAME} in it; may be repeated.
    #[arg(long = "set", env = "PALISADE_SET", value_name = "NAME=VALUE", value_delimiter = ';', value_parser = pair)]
    set: Vec<(String, String)>,
    /// The same from a JSON file, such as the ready file of `palisade demo`: {"ledger": {"admin": "127.0.0.1:15000"}} is what
    /// stands for ${ledger.admin}.
    #[arg(long, env = "PALISADE_VALUES", value_name = "FILE")]
    values: Option<PathBuf>,
    /// Take addresses that are not of this host.
    #[arg(long, env = "PALISADE_ALLOW_REMOTE")]
    allow_remote: bool,
    /// Write the report to this file as a page of HTML, with plots.
    #[arg(long, env = "PALISADE_HTML", value_name = "FILE")]
    html: Option<PathBuf>,
    /// text: a line for each step; json: all of it. What happens meanwhile goes to stderr.
    #[arg(short, long, env = "PALISADE_OUTPUT", default_value = "text")]
    output: Format,
}

impl Rehearse {
    pub(crate) fn run(self) -> Outcome {
        let rehearsal = self.rehearsal()?;
        if !self.allow_remote {
            all_on_loopback(&rehearsal).map_err(Failure::input)?;
        }
        // Before anything is broken: a report that cannot be written is no report.
        let page = self.html.as_deref().map(create).transpose().map_err(Failure::input)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let report = runtime.block_on(play(&rehearsal))?;
        match self.output {
            Format::Json => print_json(&report)?,
            Format::Text => print(&printable(&report::text(&report)))?,
        }
        if let (Some(mut page), Some(path)) = (page, &self.html) {
            let written = page.write_all(report::html(&report).as_bytes());
            written.with_context(|| format!("cannot write {}", path.display()))?;
        }
        match report.verdict {
            Verdict::Held => Ok(()),
            Verdict::NotBegun => Err(Failure::not_begun()),
            _ => Err(Failure::reported()),
        }
    }

    fn rehearsal(&self) -> Result<Rehearsal, Failure> {
        let sources = files::read(std::slice::from_ref(&self.file)).map_err(Failure::input)?;
        let parsed = document::parse_all(&sources);
        if parsed.findings.has_errors() {
            return Err(print_findings_of(&parsed.findings, &sources));
        }
        let unfilled = only(&parsed.rehearsals, &self.file).map_err(Failure::input)?;
        let values = self.all_values().map_err(Failure::input)?;
        self.filled(unfilled, &values, &sources)
    }

    fn filled(
        &self,
        unfilled: &Unfilled,
        values: &Values,
        sources: &[SourceFile],
    ) -> Result<Rehearsal, Failure> {
        if let Some((name, _)) = self.set.iter().find(|(name, _)| !unfilled.asks_for(name)) {
            let problem = anyhow!("nothing in {} asks for ${{{name}}}", self.file.display());
            return Err(Failure::input(problem.context(format!("--set {name} does nothing"))));
        }
        unfilled.fill(values).map_err(|findings| print_findings_of(&findings, sources))
    }

    fn all_values(&self) -> Result<Values> {
        let mut pairs = Vec::new();
        if let Some(path) = &self.values {
            flatten("", &read_json(path)?, &mut pairs);
        }
        // The last one counts.
        pairs.extend(self.set.iter().cloned());
        Ok(pairs.into_iter().collect())
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
    pair.map(|(name, value)| (name.to_owned(), value.to_owned())).ok_or_else(|| "write NAME=VALUE".to_owned())
}

fn only<'p>(rehearsals: &'p [Unfilled], file: &Path) -> Result<&'p Unfilled> {
    match rehearsals {
        [one] => Ok(one),
        [] => bail!("there is no Rehearsal in {}; write one (kind: Rehearsal)", file.display()),
        several => bail!("{} has {} Rehearsals; one is played at a time", file.display(), several.len()),
    }
}

fn read_json(path: &Path) -> Result<Value> {
    let shown = path.display();
    let size = std::fs::metadata(path).with_context(|| format!("cannot read {shown}"))?.len();
    anyhow::ensure!(
        size <= VALUES_BYTES_MAX,
        "{shown} has {size} bytes, at most {VALUES_BYTES_MAX} are taken"
    );
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
    let value: Value = serde_json::from_str(&text).with_context(|| format!("{shown} is not JSON"))?;
    anyhow::ensure!(
        value.is_object(),
        "{shown} holds no object; write names and values: {{\"ledger\": ...}}"
    );
    Ok(value)
}

/// Names of what is within another are joined by dots.
fn flatten(prefix: &str, value: &Value, pairs: &mut Vec<(String, String)>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let name = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                flatten(&name, value, pairs);
            }
        }
        Value::String(text) => pairs.push((prefix.to_owned(), text.clone())),
        Value::Number(number) => pairs.push((prefix.to_owned(), number.to_string())),
        Value::Null | Value::Bool(_) | Value::Array(_) => {}
    }
}

fn all_on_loopback(rehearsal: &Rehearsal) -> Result<()> {
    let remote = |(_, address): &(String, SocketAddr)| !address.ip().is_loopback();
    let remote = rehearsal.addresses().into_iter().find(remote);
    let remote = remote.map(|(path, address)| (path, address.to_string()));
    let server = rehearsal.control_plane.as_ref().map(|control_plane| &control_plane.server);
    let is_here = |server: &&String| server.parse().is_ok_and(|at: SocketAddr| at.ip().is_loopback());
    let server = server.filter(|server| !is_here(server));
    let server = server.map(|server| ("spec.controlPlane.server".to_owned(), server.clone()));
    match remote.or(server) {
        None => Ok(()),
        Some((path, address)) => bail!(
            "{path} is {address}, which is not an address of this host; --allow-remote takes it, if it may be broken"
        ),
    }
}

fn create(path: &Path) -> Result<File> {
    File::create(path).with_context(|| format!("cannot write {}", path.display()))
}

async fn play(rehearsal: &Rehearsal) -> Result<Report> {
    let (stop, stopped) = watch::channel(false);
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for Ctrl-C")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let told = tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        stop.send_replace(true);
        // Nobody is to take an end of this for a word to stop.
        stop.closed().await;
    });
    let tell = |line: &str| {
        // Nobody reads it any more, then. What is broken has to be mended nonetheless.
        let _closed = note(line);
    };
    let faults = ControlPlane::of(rehearsal);
    let stage = Stage { rehearsal, faults, stop: stopped, tell, began: SystemTime::now() };
    let report = Box::pin(stage.play()).await;
    told.abort();
    Ok(report)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_of_a_file_are_named_by_the_way_to_them() {
        let value = json!({"a": {"b": "1", "c": {"d": 2}}, "e": "3", "list": ["x"], "no": null});
        let mut pairs = Vec::new();
        flatten("", &value, &mut pairs);
        let pairs: Vec<_> = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(pairs, [("a.b", "1"), ("a.c.d", "2"), ("e", "3")]);
    }
}
