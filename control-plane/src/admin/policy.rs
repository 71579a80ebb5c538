//! Apply, get, delete.

use std::time::Duration;

use palisade_policy::Findings;
use palisade_policy::document::SourceFile;
use palisade_policy::kind::Kind;
use palisade_proto::v1;
use palisade_proto::v1::push_result::Outcome as PushOutcome;
use tokio::time::Instant;
use tonic::Status;

use super::Call;
use crate::clock::rfc3339;
use crate::context::{Context, unavailable};
use crate::policies::{ChangeError, Outcome, Terms, Writer};
use crate::store::{Action, ObjectKey, ObjectRow, VersionRow};

/// Versions in an answer to a call that names no number.
const HISTORY_PAGE_DEFAULT: u32 = 20;
/// Experiments that one call names.
const STOPPED_MAX: usize = 1000;

pub(super) async fn apply(call: Call, request: v1::ApplyRequest) -> Result<v1::ApplyResponse, Status> {
    let context = call.context.clone();
    let limits = &context.limits;
    if request.files.len() > limits.files_max {
        return Err(Status::invalid_argument(format!("at most {} files in one call", limits.files_max)));
    }
    let message = message(&context, request.message)?;
    let wait = wait(&context, request.wait_ms)?;
    let files: Vec<_> =
        request.files.into_iter().map(|f| SourceFile { name: f.name, text: f.text }).collect();
    let (prune, terms) =
        (request.prune, Terms { dry_run: request.dry_run, base_version: request.base_version });
    let change = move |call: Call| async move {
        let known = call.context.registry.known_workloads();
        let writer = Writer { message: &message, ..writer(&call, &known) };
        let applied = call.context.policies.apply(&files, prune, terms, &writer).await;
        applied.map_err(|e| change_failed(&call.context, &e))
    };
    run(call, wait, change).await.map(applied)
}

pub(super) async fn rollback(call: Call, request: v1::RollbackRequest) -> Result<v1::ApplyResponse, Status> {
    let message = message(&call.context, request.message)?;
    let wait = wait(&call.context, request.wait_ms)?;
    let version = request.version;
    let terms = Terms { dry_run: request.dry_run, base_version: request.base_version };
    let change = move |call: Call| async move {
        let known = call.context.registry.known_workloads();
        let writer = Writer { message: &message, rollback_of: Some(version), ..writer(&call, &known) };
        let applied = call.context.policies.rollback(version, terms, &writer).await;
        applied.map_err(|e| change_failed(&call.context, &e))
    };
    run(call, wait, change).await.map(applied)
}

pub(super) async fn delete(call: Call, request: v1::DeleteRequest) -> Result<v1::DeleteResponse, Status> {
    let kind = known_kind(&request.kind)?.to_owned();
    if request.namespace.is_empty() || request.name.is_empty() {
        return Err(Status::invalid_argument("delete takes kind, namespace and name of one object"));
    }
    let message = message(&call.context, request.message)?;
    let wait = wait(&call.context, request.wait_ms)?;
    let key = ObjectKey { kind, namespace: request.namespace, name: request.name };
    let change = move |call: Call| async move {
        let known = call.context.registry.known_workloads();
        let writer = Writer { message: &message, ..writer(&call, &known) };
        let deleted = call.context.policies.delete(|found| *found == key, &writer).await;
        deleted.map_err(|e| change_failed(&call.context, &e))
    };
    let (outcome, pushes) = run(call, wait, change).await?;
    Ok(v1::DeleteResponse { version: outcome.version, pushes, findings: findings_to_wire(&outcome.findings) })
}

/// The way out of a rehearsal that goes wrong.
pub(super) async fn stop_faults(
    call: Call,
    request: v1::StopFaultsRequest,
) -> Result<v1::ApplyResponse, Status> {
    let v1::StopFaultsRequest { names, all, .. } = request;
    if all != names.is_empty() || names.len() > STOPPED_MAX {
        let said = format!("stop takes up to {STOPPED_MAX} names, or all and no name");
        return Err(Status::invalid_argument(said));
    }
    let message = message(&call.context, request.message)?;
    let wait = wait(&call.context, request.wait_ms)?;
    let change = move |call: Call| async move {
        // Without the services that have joined: what they make of other objects must not be in the way.
        let writer = Writer { message: &message, ..writer(&call, &[]) };
        let is_meant = |key: &ObjectKey| {
            let is_named = |name: &String| name.split_once('/') == Some((&key.namespace, &key.name));
            key.kind == Kind::FaultExperiment.name() && (all || names.iter().any(is_named))
        };
        match call.context.policies.delete(is_meant, &writer).await {
            Err(ChangeError::NotFound) if all => Ok(call.context.policies.unchanged().await),
            stopped => stopped.map_err(|e| change_failed(&call.context, &e)),
        }
    };
    run(call, wait, change).await.map(applied)
}

pub(super) async fn get(call: &Call, request: v1::GetRequest) -> Result<v1::GetResponse, Status> {
    if !request.kind.is_empty() {
        known_kind(&request.kind)?;
    }
    let matches = |wanted: &str, found: &str| wanted.is_empty() || wanted == found;
    let wanted = |key: &ObjectKey| {
        matches(&request.kind, &key.kind)
            && matches(&request.namespace, &key.namespace)
            && matches(&request.name, &key.name)
    };
    let (version, rows) = match request.version {
        0 => call.context.policies.get(wanted).await,
        version => {
            let rows = call.context.store.objects_at(version).await.map_err(|e| unavailable(&e))?;
            let rows = rows.ok_or_else(|| no_such_version(version))?;
            (version, rows.into_iter().filter(|row| wanted(&row.key)).collect())
        }
    };
    Ok(v1::GetResponse { objects: rows.into_iter().map(object_to_wire).collect(), version })
}

pub(super) async fn history(call: &Call, request: v1::HistoryRequest) -> Result<v1::HistoryResponse, Status> {
    let limit = match request.limit {
        0 => HISTORY_PAGE_DEFAULT,
        limit => limit.min(call.context.limits.history_page_max),
    };
    let before = (request.before != 0).then_some(request.before);
    let rows = call.context.store.versions(before, limit).await.map_err(|e| unavailable(&e))?;
    Ok(v1::HistoryResponse { versions: rows.into_iter().map(version_to_wire).collect() })
}

fn applied((outcome, pushes): (Outcome, Vec<v1::PushResult>)) -> v1::ApplyResponse {
    let changes = outcome.changes.into_iter().map(|(action, key)| change_to_wire(action, key)).collect();
    let findings = findings_to_wire(&outcome.findings);
    v1::ApplyResponse { findings, version: outcome.version, changes, pushes }
}

/// Makes the change to its end, whatever becomes of the caller; then waits for the proxies.
async fn run<F>(
    call: Call,
    wait: Duration,
    change: impl FnOnce(Call) -> F + Send + 'static,
) -> Result<(Outcome, Vec<v1::PushResult>), Status>
where
    F: Future<Output = Result<Outcome, Status>> + Send + 'static,
{
    let context = call.context.clone();
    let operator = call.operator.clone();
    let work = async move {
        let outcome = change(call.clone()).await?;
        // Those connected when it came into force.
        let targets = call.context.registry.connected();
        Ok((outcome, targets))
    };
    let (outcome, targets) = context.complete(work).await?;
    let Some(stored_at) = outcome.stored_at else { return Ok((outcome, Vec::new())) };
    context.metrics.applies.increment();
    let changed = outcome.changes.iter().filter(|(action, _)| action.is_some()).count();
    tracing::info!(operator.id = %operator, policy.version = outcome.version, changed, "policy changed");
    let pushes = match wait.is_zero() {
        true => Vec::new(),
        false => answers(&context, &targets, outcome.version, stored_at, wait).await,
    };
    Ok((outcome, pushes))
}

/// Waits until every target has answered this version or a later one.
async fn answers(
    context: &Context,
    targets: &[String],
    version: u64,
    stored_at: Instant,
    wait: Duration,
) -> Vec<v1::PushResult> {
    let mut news = context.registry.answers();
    let all = async {
        loop {
            let waiting = |id: &String| {
                // One that was evicted meanwhile has nothing to answer.
                context.registry.answer_for(id, version).is_some_and(|(_, answer)| answer.is_none())
            };
            if !targets.iter().any(waiting) || news.changed().await.is_err() {
                return;
            }
        }
    };
    let _ = tokio::select! {
        done = tokio::time::timeout(wait, all) => done,
        () = context.stop.cancelled() => Ok(()),
    };
    targets.iter().filter_map(|id| push_result(context, id, version, stored_at)).collect()
}

fn push_result(context: &Context, id: &str, version: u64, stored_at: Instant) -> Option<v1::PushResult> {
    let (workload, answer) = context.registry.answer_for(id, version)?;
    let latency = answer.as_ref().map(|a| a.at.saturating_duration_since(stored_at));
    let (outcome, findings) = match answer {
        None => (PushOutcome::Timeout, Vec::new()),
        Some(answer) => match answer.refused {
            None => (PushOutcome::Acked, Vec::new()),
            Some(findings) => (PushOutcome::Nacked, findings),
        },
    };
    Some(v1::PushResult {
        instance_id: id.to_owned(),
        spiffe_id: workload.id.to_string(),
        outcome: outcome.into(),
        latency_us: latency.map_or(0, |l| u64::try_from(l.as_micros()).unwrap_or(u64::MAX)),
        findings,
    })
}

fn writer<'a>(call: &'a Call, known_workloads: &'a [String]) -> Writer<'a> {
    let context = &call.context;
    Writer {
        store: &context.store,
        hub: &context.hub,
        author: call.operator.as_str(),
        now: context.clock.now(),
        message: "",
        rollback_of: None,
        known_workloads,
        objects_max: context.limits.objects_max,
    }
}

fn wait(context: &Context, wait_ms: u32) -> Result<Duration, Status> {
    let wait = Duration::from_millis(wait_ms.into());
    if wait > context.limits.wait_max {
        let max = context.limits.wait_max.as_millis();
        return Err(Status::invalid_argument(format!("wait_ms is at most {max}")));
    }
    Ok(wait)
}

fn message(context: &Context, message: String) -> Result<String, Status> {
    let max = context.limits.message_bytes_max;
    match message.len() > max {
        true => Err(Status::invalid_argument(format!("the message has at most {max} bytes"))),
        false => Ok(message),
    }
}

fn no_such_version(version: u64) -> Status {
    Status::not_found(format!("version {version} is not in the history; `palisade history` lists what is"))
}

fn known_kind(kind: &str) -> Result<&'static str, Status> {
    let known = Kind::ALL.into_iter().map(Kind::name);
    known.clone().find(|name| *name == kind).ok_or_else(|| {
        let known: Vec<_> = known.collect();
        Status::invalid_argument(format!("there is no kind {kind:?}; the kinds are {}", known.join(", ")))
    })
}

fn change_failed(context: &Context, error: &ChangeError) -> Status {
    match error {
        ChangeError::NotFound => Status::not_found("there is no such object"),
        ChangeError::NoSuchVersion(version) => no_such_version(*version),
        ChangeError::OtherVersion { looked_at, in_force } => Status::failed_precondition(format!(
            "somebody else changed the policy: version {in_force} is in force and not {looked_at} any more; nothing was \
             changed, look again"
        )),
        ChangeError::TooManyObjects => {
            Status::resource_exhausted(format!("at most {} objects", context.limits.objects_max))
        }
        ChangeError::NothingStays => Status::invalid_argument(
            "the documents hold no object, and to prune by them would delete the whole policy; nothing was changed. Name \
             other documents, or delete objects one by one",
        ),
        ChangeError::Store(error) => unavailable(error),
    }
}

fn findings_to_wire(findings: &Findings) -> Vec<v1::Finding> {
    findings.0.iter().map(v1::Finding::from).collect()
}

fn change_to_wire(action: Option<Action>, key: ObjectKey) -> v1::Change {
    let action = match action {
        Some(Action::Created) => v1::change::Action::Created,
        Some(Action::Updated) => v1::change::Action::Updated,
        Some(Action::Deleted) => v1::change::Action::Deleted,
        None => v1::change::Action::Unchanged,
    };
    v1::Change { action: action.into(), kind: key.kind, namespace: key.namespace, name: key.name }
}

fn version_to_wire(row: VersionRow) -> v1::PolicyVersion {
    v1::PolicyVersion {
        version: row.version,
        author: row.author,
        at: rfc3339(row.at),
        message: row.message,
        rollback_of: row.rollback_of.unwrap_or(0),
        changes: row.changes.into_iter().map(|(action, key)| change_to_wire(Some(action), key)).collect(),
    }
}

fn object_to_wire(row: ObjectRow) -> v1::StoredObject {
    v1::StoredObject {
        kind: row.key.kind,
        namespace: row.key.namespace,
        name: row.key.name,
        text: row.text,
        version: u64::try_from(row.version).unwrap_or(0),
        changed_by: row.author,
        changed_at: rfc3339(row.at),
    }
}
