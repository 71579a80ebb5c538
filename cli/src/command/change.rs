//! What commands that change the policy set have in common: they show the plan, act, and say what became of it.

use std::time::Duration;

use palisade_policy::Severity;
use palisade_policy::document::SourceFile;
use palisade_policy::kind::Object;
use palisade_proto::v1::{ApplyResponse, GetResponse, Proxy};
use palisade_proxy::settings::parse_duration;
use serde_json::json;

use crate::exit::{Failure, Outcome};
use crate::output::{Format, Shown, plan as shown, print, print_findings, print_json, push};
use crate::plan::Plan;

#[derive(Debug, clap::Args)]
pub(super) struct Change {
    /// Show what would change and check everything, and change nothing.
    #[arg(long, env = "PALISADE_DRY_RUN")]
    pub(super) dry_run: bool,
    #[command(flatten)]
    pub(super) terms: Terms,
    #[arg(short, long, env = "PALISADE_OUTPUT", default_value = "text")]
    output: Format,
}

/// What every change takes.
#[derive(Debug, clap::Args)]
pub(super) struct Terms {
    /// Why, for the history; at most 1024 bytes.
    #[arg(short, long, env = "PALISADE_MESSAGE", value_name = "TEXT", default_value = "")]
    pub(super) message: String,
    /// How long to wait until every connected proxy has the change, at most 60s; 0s: do not wait.
    #[arg(long, env = "PALISADE_WAIT", value_name = "TIME", default_value = "5s", value_parser = parse_duration)]
    pub(super) wait: Duration,
}

impl Terms {
    pub(super) fn wait_ms(&self) -> u32 {
        u32::try_from(self.wait.as_millis()).unwrap_or(u32::MAX)
    }
}

/// A change on its way from a plan to its end.
pub(super) struct Shows<'a> {
    change: &'a Change,
    plan: Plan,
    findings: Vec<Shown>,
    sources: &'a [SourceFile],
    /// What the control plane has done; before that, what it would do.
    response: ApplyResponse,
}

impl<'a> Shows<'a> {
    /// `would` is the answer to a dry run. A set with errors is refused here, whole.
    pub(super) fn new(
        change: &'a Change,
        sources: &'a [SourceFile],
        in_force: &GetResponse,
        next: Vec<Object>,
        proxies: &[Proxy],
        would: ApplyResponse,
    ) -> Result<Self, Failure> {
        let mut findings: Vec<Shown> = would.findings.iter().map(Shown::from).collect();
        let refused = findings.iter().any(Shown::is_error);
        let plan = Plan::new(in_force, &would.changes, next, proxies);
        if !refused {
            findings.extend(plan.lint.iter().map(as_warning));
        }
        let shows = Self { change, plan, findings, sources, response: would };
        if refused {
            match change.output {
                Format::Json => print_json(&shows.to_json())?,
                Format::Text => drop(print_findings(&shows.findings, sources)?),
            }
            return Err(Failure::input_reported());
        }
        Ok(shows)
    }

    /// Shows the plan. Whether it is to be done.
    pub(super) fn before(&self) -> std::io::Result<bool> {
        if self.change.output == Format::Text {
            print_findings(&self.findings, self.sources)?;
            let plan = shown::describe(&self.plan);
            if !plan.is_empty() {
                print(&plan)?;
            }
        }
        Ok(!self.change.dry_run && self.plan.changes_anything())
    }

    pub(super) fn done(&mut self, response: ApplyResponse) {
        self.response = response;
    }

    /// Says what became of it.
    pub(super) fn after(self) -> Outcome {
        // Valid a moment ago, and with the same base: only the registry can have changed what it means.
        let late: Vec<Shown> =
            self.response.findings.iter().map(Shown::from).filter(Shown::is_error).collect();
        match self.change.output {
            Format::Json => print_json(&self.to_json())?,
            Format::Text if late.is_empty() => print(&self.result())?,
            Format::Text => drop(print_findings(&late, self.sources)?),
        }
        match late.is_empty() {
            false => Err(Failure::input_reported()),
            true if push::all_acked(&self.response.pushes) => Ok(()),
            true => Err(Failure::reported()),
        }
    }

    fn result(&self) -> String {
        let version = self.response.version;
        match (self.change.dry_run, self.plan.changes_anything()) {
            (true, _) => format!("dry run: nothing changed, version {version} stays in force"),
            (false, false) => format!("nothing to change, version {version} stays in force"),
            (false, true) if self.change.terms.wait.is_zero() => format!("version {version}"),
            (false, true) => format!("version {version}\n{}", push::describe(&self.response.pushes)),
        }
    }

    fn to_json(&self) -> serde_json::Value {
        let (changes, effect) = shown::to_json(&self.plan);
        json!({
            "dry_run": self.change.dry_run,
            "base_version": self.plan.base,
            "version": self.response.version,
            "findings": self.findings,
            "changes": changes,
            "effect": effect,
            "pushes": self.response.pushes.iter().map(push::to_json).collect::<Vec<_>>(),
        })
    }
}

/// Nothing is refused because of what lint says.
fn as_warning(finding: &palisade_policy::Finding) -> Shown {
    match finding.severity {
        Severity::Error => Shown { severity: Severity::Warning.name().to_owned(), ..Shown::from(finding) },
        Severity::Warning | Severity::Note => Shown::from(finding),
    }
}
