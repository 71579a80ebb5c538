//! The control plane as a rehearsal asks it: each time on a connection of its own, since it may have been away.

use anyhow::{Context as _, Result, bail, ensure};
use palisade_policy::rehearsal::Rehearsal;
use palisade_proto::v1::{ApplyRequest, ApplyResponse, PushResult, SourceFile, StopFaultsRequest};
use palisade_rehearsal::Faults;

use crate::admin::{self, Client};
use crate::exit::Failure;
use crate::output::{Shown, push};

/// Until every connected proxy has a change.
const WAIT_MS: u32 = 5_000;

pub(super) struct ControlPlane {
    /// `None`: the document names none, and no step asks for it.
    options: Option<admin::Options>,
    /// For the history.
    message: String,
}

impl ControlPlane {
    pub(super) fn of(rehearsal: &Rehearsal) -> Self {
        let named = rehearsal.control_plane.as_ref();
        let options = named.map(|named| admin::Options::of(&named.server, &named.operator_dir));
        let meta = &rehearsal.meta;
        Self { options, message: format!("rehearsal {}/{}", meta.namespace, meta.name) }
    }

    async fn client(&self) -> Result<Client> {
        let options = self.options.as_ref().context("no control plane is named")?;
        options.client().await.map_err(Failure::into_error)
    }

    async fn apply(&self, document: &str, dry_run: bool) -> Result<ApplyResponse> {
        let file = SourceFile { name: "the fault".to_owned(), text: document.to_owned() };
        let request = ApplyRequest {
            files: vec![file],
            wait_ms: WAIT_MS,
            message: self.message.clone(),
            dry_run,
            ..ApplyRequest::default()
        };
        let response = self.client().await?.apply(request).await;
        let response = response.map_err(|status| admin::refused(status).into_error())?.into_inner();
        if let Some(first) = response.findings.iter().map(Shown::from).find(Shown::is_error) {
            let Shown { code, path, message, help, .. } = first;
            bail!("{code} at {path}: {message}; {help}");
        }
        Ok(response)
    }
}

impl Faults for ControlPlane {
    async fn check(&self, document: &str) -> Result<()> {
        self.apply(document, true).await.map(|_would| ())
    }

    async fn begin(&self, document: &str) -> Result<()> {
        all_have_it(&self.apply(document, false).await?.pushes)
    }

    async fn end(&self, experiment: &str) -> Result<()> {
        let request = StopFaultsRequest {
            names: vec![experiment.to_owned()],
            all: false,
            wait_ms: WAIT_MS,
            message: self.message.clone(),
        };
        let response = self.client().await?.stop_faults(request).await;
        let response = response.map_err(|status| admin::refused(status).into_error())?.into_inner();
        all_have_it(&response.pushes)
    }
}

fn all_have_it(pushes: &[PushResult]) -> Result<()> {
    ensure!(push::all_acked(pushes), "{}", push::describe(pushes));
    Ok(())
}
