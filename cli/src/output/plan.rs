//! A change of the policy set as it is shown before it is made.

use palisade_policy::difference::Difference;
use palisade_policy::document::changes::FieldChange;
use palisade_proto::v1::change::Action;
use serde_json::{Value, json};

use super::{count, diff, printable};
use crate::plan::{Concerned, Effect, ObjectPlan, Plan};

/// Workloads that are named; of more only the number is told.
const WORKLOADS_SHOWN: usize = 20;

/// The objects with their fields, and who gets other policy.
pub(crate) fn describe(plan: &Plan) -> String {
    let mut lines: Vec<String> = plan.objects.iter().flat_map(object).collect();
    if plan.changes_anything() {
        lines.extend(effect(plan.effect.as_ref()));
        lines.push(access(plan.access.as_ref()));
    }
    printable(&lines.join("\n"))
}

fn object(plan: &ObjectPlan) -> Vec<String> {
    let ObjectPlan { action, kind, namespace, name, fields } = plan;
    let mut lines = vec![format!("{} {kind} {namespace}/{name}", action_name(*action))];
    if *action == Action::Updated && fields.is_empty() {
        lines.push("    layout or comments only".to_owned());
    }
    lines.extend(fields.iter().map(|change| format!("    {}", field(change))));
    lines
}

fn field(change: &FieldChange) -> String {
    let FieldChange { path, removed, added } = change;
    let path = if path.is_empty() { "document" } else { path };
    let one_line = |text: &String| text.replace('\n', "\\n");
    match (removed.as_slice(), added.as_slice()) {
        ([old], [new]) => format!("{path}: {} -> {}", one_line(old), one_line(new)),
        _ => {
            let removed = removed.iter().map(|text| format!("- {}", one_line(text)));
            let added = added.iter().map(|text| format!("+ {}", one_line(text)));
            format!("{path}: {}", removed.chain(added).collect::<Vec<_>>().join("  "))
        }
    }
}

fn effect(effect: Option<&Effect>) -> Vec<String> {
    let Some(Effect { concerned, known }) = effect else {
        return vec![
            "effect: unknown, what is in force cannot be read by this version of palisade".to_owned(),
        ];
    };
    let known_workloads = count(*known, "known workload");
    let mut lines = vec![match concerned.len() {
        0 => format!("effect: none of {known_workloads} gets other policy"),
        n => format!("effect: other policy for {n} of {known_workloads}"),
    }];
    lines.extend(
        concerned
            .iter()
            .take(WORKLOADS_SHOWN)
            .map(|c| format!("    {} ({})", workload(c), count(c.instances, "instance"))),
    );
    if concerned.len() > WORKLOADS_SHOWN {
        lines.push(format!("    and {} more", concerned.len() - WORKLOADS_SHOWN));
    }
    lines
}

fn access(difference: Option<&Difference>) -> String {
    match difference {
        Some(difference) => format!("access: {}", diff::brief(difference)),
        None => "access: unknown, what is in force cannot be compared; `palisade diff` says why".to_owned(),
    }
}

fn workload(concerned: &Concerned) -> String {
    let Concerned { id, labels, .. } = concerned;
    let Some(name) = id.workload() else { return id.to_string() };
    let account = name.service_account.as_str();
    // `app` is the service account unless a join token says otherwise.
    let telling = labels.iter().filter(|(key, value)| key.as_str() != "app" || value.as_str() != account);
    let labels: Vec<String> = telling.map(|(key, value)| format!(" {key}={value}")).collect();
    format!("{}/{account}{}", name.namespace, labels.concat())
}

pub(crate) fn to_json(plan: &Plan) -> (Value, Value) {
    let field = |c: &FieldChange| json!({ "path": c.path, "removed": c.removed, "added": c.added });
    let object = |o: &ObjectPlan| {
        json!({
            "action": action_name(o.action), "kind": o.kind, "namespace": o.namespace, "name": o.name,
            "fields": o.fields.iter().map(field).collect::<Vec<_>>(),
        })
    };
    let concerned = |c: &Concerned| json!({ "spiffe_id": c.id.to_string(), "labels": c.labels, "instances": c.instances });
    let effect = plan.effect.as_ref().map(|effect| {
        json!({
            "workloads_known": effect.known,
            "workloads": effect.concerned.iter().map(concerned).collect::<Vec<_>>(),
            "access": plan.access,
        })
    });
    (plan.objects.iter().map(object).collect(), effect.into())
}

pub(crate) fn action_name(action: Action) -> &'static str {
    match action {
        Action::Unspecified => "unknown",
        Action::Created => "created",
        Action::Updated => "updated",
        Action::Unchanged => "unchanged",
        Action::Deleted => "deleted",
    }
}
