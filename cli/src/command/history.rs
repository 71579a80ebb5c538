use std::time::Duration;

use palisade_proto::v1::{Change, HistoryRequest, PolicyVersion};
use serde_json::{Value, json};

use crate::admin;
use crate::exit::Outcome;
use crate::output::data::Format;
use crate::output::plan::action_name;
use crate::output::{or_dash, print, table};

/// List the versions of the policy set, the newest first: who changed what, when and why.
#[derive(Debug, clap::Args)]
pub(crate) struct History {
    /// How many.
    #[arg(long, env = "PALISADE_LIMIT", value_name = "N", default_value_t = 20,
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// Only versions before this one.
    #[arg(long, env = "PALISADE_BEFORE", value_name = "VERSION", value_parser = clap::value_parser!(u64).range(1..))]
    before: Option<u64>,
    #[arg(short, long, env = "PALISADE_OUTPUT", default_value = "table")]
    output: Format,
    #[command(flatten)]
    admin: admin::Options,
}

impl History {
    pub(crate) fn run(self) -> Outcome {
        let request = HistoryRequest { limit: self.limit, before: self.before.unwrap_or(0) };
        self.admin.with_client(Duration::ZERO, async |mut client| {
            let versions = client.history(request).await.map_err(admin::refused)?.into_inner().versions;
            let text = self.output.render(|| rows(&versions), || data(&versions))?;
            print(&text)?;
            Ok(())
        })
    }
}

fn rows(versions: &[PolicyVersion]) -> String {
    let head = ["VERSION", "AT", "BY", "CHANGES", "MESSAGE"];
    table(
        head,
        versions.iter().map(|v| {
            [v.version.to_string(), v.at.clone(), v.author.clone(), changes(&v.changes), or_dash(message(v))]
        }),
    )
}

/// One object by its name; of several, how many became what.
fn changes(changes: &[Change]) -> String {
    if let [one] = changes {
        return format!("{} {} {}/{}", action_name(one.action()), one.kind, one.namespace, one.name);
    }
    let mut parts: Vec<(&str, usize)> = Vec::new();
    for change in changes {
        let name = action_name(change.action());
        match parts.iter_mut().find(|(known, _)| *known == name) {
            Some((_, count)) => *count += 1,
            None => parts.push((name, 1)),
        }
    }
    or_dash(parts.iter().map(|(name, count)| format!("{count} {name}")).collect::<Vec<_>>().join(", "))
}

fn message(version: &PolicyVersion) -> String {
    match (version.rollback_of, version.message.as_str()) {
        (0, message) => message.to_owned(),
        (old, "") => format!("rollback to {old}"),
        (old, message) => format!("rollback to {old}: {message}"),
    }
}

fn data(versions: &[PolicyVersion]) -> Value {
    let change = |c: &Change| json!({ "action": action_name(c.action()), "kind": c.kind, "namespace": c.namespace, "name": c.name });
    let version = |v: &PolicyVersion| {
        json!({
            "version": v.version, "at": v.at, "author": v.author, "message": v.message,
            "rollback_of": (v.rollback_of != 0).then_some(v.rollback_of),
            "changes": v.changes.iter().map(change).collect::<Vec<_>>(),
        })
    };
    json!({ "versions": versions.iter().map(version).collect::<Vec<_>>() })
}
