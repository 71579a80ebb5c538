//! File mode: policies, certificate, key and roots from files, read again when they change.
//!
//! Changes are found by content and not by time stamps, which copies and mounts set as they like. What is wrong is
//! logged once, and the last good state stays in force.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use palisade_identity::SpiffeId;
use palisade_policy::projection::project;
use palisade_policy::set::PolicySet;
use palisade_policy::{Findings, Projection, Snapshot, Workload, document};
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval_at, sleep};

use super::read::{self, CredentialPaths, FileError, PolicyFiles};
use super::status::{Applied, Status};
use crate::identity::{Clock, Standing};
use crate::live::Live;
use crate::run::RunError;
use crate::settings::control::ControlLimits;

/// What file mode was told.
#[derive(Clone, Debug)]
pub(crate) struct FileSettings {
    pub(crate) policies: PathBuf,
    pub(crate) credentials: CredentialPaths,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) reload_interval: Duration,
}

/// Policies and credentials from files.
#[derive(Debug)]
pub(crate) struct FileSource {
    settings: FileSettings,
    limits: ControlLimits,
    live: Arc<Live>,
    status: Arc<Status>,
    clock: Arc<dyn Clock>,
    id: SpiffeId,
    version: u64,
    generation: u64,
    /// Digests of what was last judged, accepted or not, so that one fault is reported once.
    policies_seen: [u8; 32],
    credentials_seen: [u8; 32],
    /// The last text of a read error, for the same reason.
    complaint: Option<String>,
}

/// One look at all files.
struct Look {
    policies: Result<PolicyFiles, FileError>,
    credentials: Result<read::Credentials, FileError>,
}

impl FileSource {
    /// Reads everything once. At start every fault is fatal, and all of them are told together.
    pub(crate) fn open(
        settings: FileSettings,
        limits: ControlLimits,
        live: Arc<Live>,
        status: Arc<Status>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, RunError> {
        let mut faults = Vec::new();
        let Look { policies, credentials } = Look::take(&settings, &limits);
        let credentials = credentials.map_err(|error| faults.push(error.to_string())).ok();
        let identity = credentials.as_ref().and_then(|credentials| {
            let made = credentials.identity(&settings.credentials, 1, clock.now());
            made.map_err(|error| faults.push(error.to_string())).ok()
        });
        let policies = policies.map_err(|error| faults.push(error.to_string())).ok();
        // Without an identity the policies are judged all the same, for a workload that nothing selects by name.
        let id = identity.as_ref().map(|identity| identity.svid.id.clone()).or_else(unknown_workload);
        let (Some(id), Some(policies)) = (id, policies) else {
            return Err(RunError::Files { faults });
        };
        let workload = workload(&id, &settings.labels);
        let compiled = compile(1, &policies, &workload).map_err(|findings| faults.push(findings.to_string()));
        let (Some(credentials), Some(identity), Ok((snapshot, projection))) =
            (credentials, identity, compiled)
        else {
            return Err(RunError::Files { faults });
        };
        live.set_identity(Arc::new(identity));
        live.set_snapshot(Arc::new(snapshot));
        status.set_applied(Applied::new(1, &policies.digest, &projection));
        Ok(Self {
            settings,
            limits,
            live,
            status,
            clock,
            id,
            version: 1,
            generation: 1,
            policies_seen: policies.digest,
            credentials_seen: credentials.digest,
            complaint: None,
        })
    }

    /// Looks again and again; never ends. `nudges` makes it look at once.
    pub(crate) async fn watch(&mut self, nudges: Arc<tokio::sync::Notify>) {
        let period = self.settings.reload_interval;
        let mut ticks = interval_at(tokio::time::Instant::now() + period, period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = nudges.notified() => {}
            }
            self.tick().await;
        }
    }

    async fn tick(&mut self) {
        if let Some(identity) = self.live.identity().as_ref()
            && identity.validity().standing(self.clock.now()) == Standing::Expired
        {
            tracing::error!(
                path = %self.settings.credentials.svid.display(),
                "the certificate expired and was not replaced: everything is refused until it is"
            );
            self.live.remove_identity();
        }
        let Some(first) = self.look().await else { return };
        if !self.is_news(&first) {
            return self.complain(first);
        }
        // A file may be in the middle of being written, and half a policy can be valid YAML that says less.
        sleep(self.limits.file_settle).await;
        let Some(second) = self.look().await else { return };
        if !second.same_as(&first) {
            return;
        }
        self.take_policies(&second);
        self.take_credentials(&second);
        self.complain(second);
    }

    async fn look(&self) -> Option<Look> {
        let (settings, limits) = (self.settings.clone(), self.limits.clone());
        spawn_blocking(move || Look::take(&settings, &limits)).await.ok()
    }

    fn is_news(&self, look: &Look) -> bool {
        let policies = look.policies.as_ref().is_ok_and(|p| p.digest != self.policies_seen);
        let credentials = look.credentials.as_ref().is_ok_and(|c| c.digest != self.credentials_seen);
        policies || credentials
    }

    fn take_policies(&mut self, look: &Look) {
        let Ok(policies) = &look.policies else { return };
        if policies.digest == self.policies_seen {
            return;
        }
        self.policies_seen = policies.digest;
        let version = self.version + 1;
        match compile(version, policies, &workload(&self.id, &self.settings.labels)) {
            Ok((snapshot, projection)) => {
                self.version = version;
                self.live.set_snapshot(Arc::new(snapshot));
                self.status.set_applied(Applied::new(version, &policies.digest, &projection));
                tracing::info!(version, "policies reloaded");
            }
            Err(findings) => {
                self.status.reload_failures.add_one();
                for finding in &findings.0 {
                    tracing::error!(
                        version = self.version,
                        "policies not reloaded, the last good ones stay: {finding}"
                    );
                }
            }
        }
    }

    fn take_credentials(&mut self, look: &Look) {
        let Ok(credentials) = &look.credentials else { return };
        if credentials.digest == self.credentials_seen {
            return;
        }
        let generation = self.generation + 1;
        match credentials.identity(&self.settings.credentials, generation, self.clock.now()) {
            Ok(identity) if identity.svid.id != self.id => {
                self.status.renewal_failures.add_one();
                tracing::error!(
                    own = %self.id, new = %identity.svid.id,
                    "certificate not reloaded: it is another workload's; restart the proxy to change its identity"
                );
            }
            Ok(identity) => {
                self.generation = generation;
                tracing::info!(
                    generation, serial = %identity.svid.serial, "certificate reloaded"
                );
                self.live.set_identity(Arc::new(identity));
            }
            Err(error) => {
                self.status.renewal_failures.add_one();
                tracing::error!("certificate not reloaded, the old one stays until it expires: {error}");
            }
        }
        self.credentials_seen = credentials.digest;
    }

    /// Reports files that cannot be read, once per text.
    fn complain(&mut self, look: Look) {
        let errors = [look.policies.err(), look.credentials.err()];
        let texts: Vec<_> = errors.into_iter().flatten().map(|error| error.to_string()).collect();
        let complaint = (!texts.is_empty()).then(|| texts.join("; "));
        if let Some(text) = &complaint
            && self.complaint != complaint
        {
            self.status.reload_failures.add_one();
            tracing::error!("files not reloaded, the last good ones stay: {text}");
        }
        self.complaint = complaint;
    }
}

impl Look {
    fn take(settings: &FileSettings, limits: &ControlLimits) -> Self {
        Self {
            policies: read::policy_files(&settings.policies, limits),
            credentials: read::credentials(&settings.credentials, limits),
        }
    }

    fn same_as(&self, other: &Self) -> bool {
        let digests = |look: &Self| {
            (look.policies.as_ref().ok().map(|p| p.digest), look.credentials.as_ref().ok().map(|c| c.digest))
        };
        digests(self) == digests(other)
    }
}

/// The label `app` is the service account's name unless something else is said, as with join tokens.
fn workload(id: &SpiffeId, labels: &BTreeMap<String, String>) -> Workload {
    let mut labels = labels.clone();
    if let Some(name) = id.workload() {
        labels.entry("app".into()).or_insert_with(|| name.service_account.as_str().into());
    }
    Workload { id: id.clone(), labels }
}

fn unknown_workload() -> Option<SpiffeId> {
    SpiffeId::parse("spiffe://unknown/ns/unknown/sa/unknown").ok()
}

/// Documents to snapshot. Warnings are logged; any error refuses the whole.
fn compile(
    version: u64,
    policies: &PolicyFiles,
    workload: &Workload,
) -> Result<(Snapshot, Projection), Findings> {
    let (objects, mut findings) = document::parse(&policies.files);
    let set = match PolicySet::new(objects, &[]) {
        Ok((set, warnings)) => {
            findings.extend(warnings);
            Some(set)
        }
        Err(errors) => {
            findings.extend(errors);
            None
        }
    };
    let set = match set {
        Some(set) if !findings.has_errors() => set,
        _ => return Err(findings),
    };
    for warning in &findings.0 {
        tracing::warn!("{warning}");
    }
    let projection = project(&set, &[], workload);
    let snapshot = Snapshot::compile(version, &projection)?;
    Ok((snapshot, projection))
}
