//! The policy set: read from the store at start, changed by one writer at a time, put in force when stored.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use palisade_policy::PolicySet;
use palisade_policy::document::{SourceFile, parse};
use palisade_policy::finding::{Finding, Findings, Severity, code};
use palisade_policy::kind::Object;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::clock::to_seconds;
use crate::store::{Action, Authorship, Change, ObjectKey, ObjectRow, Store, StoreError};
use crate::world::Hub;

/// Why the stored set is not put in force.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(
        "the stored {object} is not valid in this version:\n{findings}\nRun the version that stored it, and apply it anew"
    )]
    Object { object: String, findings: Findings },
    #[error(
        "the stored objects do not fit each other:\n{0}\nRun the version that stored them, and apply them anew"
    )]
    Set(Findings),
}

/// Every object by its key, as stored.
#[derive(Debug)]
pub(crate) struct Policies(Mutex<Current>);

#[derive(Clone, Debug, Default)]
struct Current {
    version: u64,
    objects: BTreeMap<ObjectKey, Stored>,
}

#[derive(Clone, Debug)]
struct Stored {
    object: Object,
    row: ObjectRow,
}

/// What a change did, or would do.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) findings: Findings,
    pub(crate) version: u64,
    pub(crate) changes: Vec<KeyedChange>,
    /// When the change was stored; none: nothing was changed.
    pub(crate) stored_at: Option<Instant>,
}

/// Why a change was not made, apart from findings.
#[derive(Debug)]
pub(crate) enum ChangeError {
    NotFound,
    NoSuchVersion(u64),
    OtherVersion {
        looked_at: u64,
        in_force: u64,
    },
    TooManyObjects,
    /// What is to be all of the policy is nothing.
    NothingStays,
    Store(StoreError),
}

impl Policies {
    /// Reads the set. An object that this version cannot read is an error: leaving it out could open a door.
    pub(crate) async fn load(store: &Store) -> Result<(Self, u64, PolicySet), LoadError> {
        let (version, rows) = store.objects().await?;
        let mut objects = BTreeMap::new();
        for row in rows {
            let object = read(&row)?;
            objects.insert(row.key.clone(), Stored { object, row });
        }
        let current = Current { version, objects };
        let (set, _) = PolicySet::new(current.list(), &[]).map_err(LoadError::Set)?;
        Ok((Self(Mutex::new(current)), version, set))
    }

    /// Objects that match, in order, and the version they are of.
    pub(crate) async fn get(&self, matches: impl Fn(&ObjectKey) -> bool) -> (u64, Vec<ObjectRow>) {
        let current = self.0.lock().await;
        let rows = current.objects.iter().filter(|(key, _)| matches(key)).map(|(_, s)| s.row.clone());
        (current.version, rows.collect())
    }

    /// What a change that changes nothing comes to.
    pub(crate) async fn unchanged(&self) -> Outcome {
        let version = self.0.lock().await.version;
        Outcome { findings: Findings::default(), version, changes: Vec::new(), stored_at: None }
    }

    pub(crate) async fn count(&self) -> usize {
        self.0.lock().await.objects.len()
    }

    /// Applies documents, all or none.
    pub(crate) async fn apply(
        &self,
        files: &[SourceFile],
        prune: bool,
        terms: Terms,
        writer: &Writer<'_>,
    ) -> Result<Outcome, ChangeError> {
        let (given, mut findings) = parse(files);
        // A generator that failed writes nothing, and with nothing in force everybody may call everybody.
        if prune && given.is_empty() && !findings.has_errors() {
            return Err(ChangeError::NothingStays);
        }
        let mut current = self.0.lock().await;
        twice(&given, &mut findings);
        let mut next = current.clone();
        let mut changes = next.take(given, writer);
        if prune {
            changes.extend(next.keep_only(&changes));
        }
        finish(&mut current, next, changes, findings, terms, writer).await
    }

    /// Makes the set what it was in an earlier version, when that is valid in this version of palisade and with the
    /// workloads of today.
    pub(crate) async fn rollback(
        &self,
        version: u64,
        terms: Terms,
        writer: &Writer<'_>,
    ) -> Result<Outcome, ChangeError> {
        let rows = writer.store.objects_at(version).await.map_err(ChangeError::Store)?;
        let rows = rows.ok_or(ChangeError::NoSuchVersion(version))?;
        let files = rows.into_iter().map(|row| SourceFile {
            name: format!("version {version}: {}", describe(&row.key)),
            text: row.text,
        });
        let mut given = Vec::new();
        let mut findings = Findings::default();
        // One by one: the limit of files in one call is for what operators name.
        for file in files {
            let (objects, found) = parse(&[file]);
            given.extend(objects);
            findings.extend(found);
        }
        let mut current = self.0.lock().await;
        let mut next = current.clone();
        let mut changes = next.take(given, writer);
        changes.extend(next.keep_only(&changes));
        changes.retain(|(action, _)| action.is_some());
        finish(&mut current, next, changes, findings, terms, writer).await
    }

    /// Deletes the objects that match, in one change.
    pub(crate) async fn delete(
        &self,
        matches: impl Fn(&ObjectKey) -> bool,
        writer: &Writer<'_>,
    ) -> Result<Outcome, ChangeError> {
        let mut current = self.0.lock().await;
        let mut next = current.clone();
        let gone: Vec<ObjectKey> = next.objects.keys().filter(|key| matches(key)).cloned().collect();
        if gone.is_empty() {
            return Err(ChangeError::NotFound);
        }
        next.objects.retain(|key, _| !matches(key));
        let changes = gone.into_iter().map(|key| (Some(Action::Deleted), key)).collect();
        finish(&mut current, next, changes, Findings::default(), Terms::default(), writer).await
    }
}

/// On what terms a change is made.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Terms {
    /// Only say what would be done.
    pub(crate) dry_run: bool,
    /// The version that the operator looked at: another one in force is a refusal.
    pub(crate) base_version: Option<u64>,
}

/// What an object becomes; no action: it stays as it is.
type KeyedChange = (Option<Action>, ObjectKey);

/// Checks the next state whole, and unless it is a dry run stores it and puts it in force.
async fn finish(
    current: &mut Current,
    next: Current,
    changes: Vec<KeyedChange>,
    mut findings: Findings,
    terms: Terms,
    writer: &Writer<'_>,
) -> Result<Outcome, ChangeError> {
    if let Some(looked_at) = terms.base_version.filter(|base| *base != current.version) {
        return Err(ChangeError::OtherVersion { looked_at, in_force: current.version });
    }
    if next.objects.len() > writer.objects_max {
        return Err(ChangeError::TooManyObjects);
    }
    let set = checked(&next, writer.known_workloads, &mut findings).filter(|_| !findings.has_errors());
    let version = current.version;
    let Some(set) = set else {
        return Ok(Outcome { findings, version, changes: Vec::new(), stored_at: None });
    };
    let mut outcome = Outcome { findings, version, changes, stored_at: None };
    if !terms.dry_run && outcome.changes.iter().any(|(action, _)| action.is_some()) {
        let rows = outcome.changes.iter().filter_map(|(action, key)| next.change((*action)?, key)).collect();
        outcome.stored_at = Some(commit(current, next, rows, set, writer).await?);
        outcome.version = current.version;
    }
    Ok(outcome)
}

/// Who changes the set, and with what.
pub(crate) struct Writer<'a> {
    pub(crate) store: &'a Store,
    pub(crate) hub: &'a Hub,
    pub(crate) author: &'a str,
    pub(crate) now: SystemTime,
    /// Why, in the author's words.
    pub(crate) message: &'a str,
    /// The version that is brought back.
    pub(crate) rollback_of: Option<u64>,
    /// Hosts, for warnings about names that nobody has.
    pub(crate) known_workloads: &'a [String],
    pub(crate) objects_max: usize,
}

impl Current {
    fn list(&self) -> Vec<Object> {
        self.objects.values().map(|s| s.object.clone()).collect()
    }

    /// Takes these objects in, and says what each of them becomes.
    fn take(&mut self, given: Vec<Object>, writer: &Writer<'_>) -> Vec<KeyedChange> {
        let mut changes = Vec::with_capacity(given.len());
        for object in given {
            let key = key(&object);
            let action = match self.objects.get(&key) {
                None => Some(Action::Created),
                Some(stored) if stored.object.text != object.text => Some(Action::Updated),
                Some(_) => None,
            };
            if action.is_some() {
                self.put(key.clone(), object, writer);
            }
            changes.push((action, key));
        }
        changes
    }

    /// Removes every object that is not among these.
    fn keep_only(&mut self, kept: &[KeyedChange]) -> Vec<KeyedChange> {
        let kept: BTreeSet<&ObjectKey> = kept.iter().map(|(_, key)| key).collect();
        let gone: Vec<ObjectKey> = self.objects.keys().filter(|key| !kept.contains(key)).cloned().collect();
        self.objects.retain(|key, _| kept.contains(key));
        gone.into_iter().map(|key| (Some(Action::Deleted), key)).collect()
    }

    fn put(&mut self, key: ObjectKey, object: Object, writer: &Writer<'_>) {
        let row = ObjectRow {
            key: key.clone(),
            text: object.text.clone(),
            version: 0,
            author: writer.author.to_owned(),
            at: to_seconds(writer.now),
        };
        self.objects.insert(key, Stored { object, row });
    }

    fn change(&self, action: Action, key: &ObjectKey) -> Option<Change> {
        let text = match action {
            Action::Deleted => String::new(),
            Action::Created | Action::Updated => self.objects.get(key)?.row.text.clone(),
        };
        Some(Change { action, key: key.clone(), text })
    }
}

/// Stores the next state, then puts it in force. Nothing is in force that is not stored.
async fn commit(
    current: &mut Current,
    mut next: Current,
    rows: Vec<Change>,
    set: PolicySet,
    writer: &Writer<'_>,
) -> Result<Instant, ChangeError> {
    let &Writer { author, now, message, rollback_of, .. } = writer;
    let authorship = Authorship { author, now, message, rollback_of };
    let version = writer.store.commit(&rows, authorship).await.map_err(ChangeError::Store)?;
    let stored_at = Instant::now();
    next.version = version;
    for row in &rows {
        if let Some(stored) = next.objects.get_mut(&row.key) {
            stored.row.version = i64::try_from(version).unwrap_or(i64::MAX);
        }
    }
    *current = next;
    writer.hub.set_policy(version, set);
    Ok(stored_at)
}

/// The set of all objects, when they fit each other.
fn checked(next: &Current, known_workloads: &[String], findings: &mut Findings) -> Option<PolicySet> {
    match PolicySet::new(next.list(), known_workloads) {
        Ok((set, warnings)) => {
            findings.extend(warnings);
            Some(set)
        }
        Err(errors) => {
            findings.extend(errors);
            None
        }
    }
}

/// One call that names an object twice: the later would silently win.
fn twice(given: &[Object], findings: &mut Findings) {
    let mut seen = BTreeMap::new();
    for object in given {
        if let Some(first) = seen.insert(key(object), object) {
            let place = first.position.as_ref().map(|p| format!("{}:{}", p.file, p.line)).unwrap_or_default();
            findings.push(Finding {
                code: code::DUPLICATE_OBJECT,
                severity: Severity::Error,
                position: object.position.clone(),
                object: Some(describe(&key(object))),
                path: "metadata.name".into(),
                message: format!("{} is defined twice, first at {place}", describe(&key(object))),
                help: Some("remove one of them, or give it another name".into()),
            });
        }
    }
}

fn read(row: &ObjectRow) -> Result<Object, LoadError> {
    let name = describe(&row.key);
    let (mut objects, findings) =
        parse(&[SourceFile { name: format!("store:{name}"), text: row.text.clone() }]);
    let object = objects.pop().filter(|o| objects.is_empty() && key(o) == row.key);
    match object {
        Some(object) if !findings.has_errors() => Ok(object),
        _ => Err(LoadError::Object { object: name, findings }),
    }
}

fn key(object: &Object) -> ObjectKey {
    ObjectKey {
        kind: object.spec.kind().name().to_owned(),
        namespace: object.meta.namespace.clone(),
        name: object.meta.name.clone(),
    }
}

fn describe(key: &ObjectKey) -> String {
    format!("{} {}/{}", key.kind, key.namespace, key.name)
}
