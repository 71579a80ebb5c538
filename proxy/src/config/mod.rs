//! Where the snapshot comes from: a control plane's stream, or files.

use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use tokio::sync::Notify;

use crate::control::{CallsTold, ControlPlaneSettings, ControlPlaneSource, Told};
use crate::drain::Drain;
use crate::identity::Clock;
use crate::listen::Addresses;
use crate::live::Live;
use crate::run::RunError;
use crate::settings::control::ControlLimits;
use crate::settings::{self, Settings};
use crate::worker::Shared;
use files::{FileSettings, FileSource};
use read::CredentialPaths;
use status::{Link, Status};

mod files;
pub(crate) mod read;
pub(crate) mod status;

/// The task that keeps identity and snapshot.
#[derive(Debug)]
pub(crate) enum Source {
    Files(Box<FileSource>),
    ControlPlane(Box<ControlPlaneSource>),
}

impl Source {
    /// Reads what is there at start; faults of what the operator gave are errors.
    pub(crate) fn open(
        settings: &Settings,
        addresses: &Addresses,
        limits: &ControlLimits,
        live: &Arc<Live>,
        status: &Arc<Status>,
        clock: &Arc<dyn Clock>,
        drain: &Drain,
    ) -> Result<Self, RunError> {
        match &settings.source {
            settings::Source::Files { policies, svid, key, roots, labels, reload_interval } => {
                status.set_link(Link::None);
                let told = FileSettings {
                    policies: policies.clone(),
                    credentials: CredentialPaths {
                        svid: svid.clone(),
                        key: key.clone(),
                        roots: roots.clone(),
                    },
                    labels: labels.clone(),
                    reload_interval: *reload_interval,
                };
                let source =
                    FileSource::open(told, limits.clone(), live.clone(), status.clone(), clock.clone())?;
                Ok(Self::Files(Box::new(source)))
            }
            settings::Source::ControlPlane { address, join_token, state_dir, advertise } => {
                let told = ControlPlaneSettings {
                    address: address.clone(),
                    join_token: join_token.clone(),
                    state_dir: state_dir.clone(),
                    advertise: *advertise,
                    serves: settings.serves.clone(),
                    addresses: addresses.clone(),
                };
                let source = ControlPlaneSource::open(
                    told,
                    limits.clone(),
                    live.clone(),
                    status.clone(),
                    clock.clone(),
                    drain.clone(),
                )?;
                Ok(Self::ControlPlane(Box::new(source)))
            }
        }
    }

    /// Goes on until something ends it that trying again cannot mend.
    pub(crate) async fn run(&mut self, refresh: Arc<Notify>, shared: &Shared) -> Result<(), RunError> {
        match self {
            Self::Files(source) => {
                source.watch(refresh).await;
                Ok(())
            }
            Self::ControlPlane(source) => {
                let sources_max = shared.limits.plaintext_sources_max;
                let calls = CallsTold { calls: &shared.calls, sources_max };
                Box::pin(source.run(refresh, Told { calls, health: &shared.health })).await
            }
        }
    }
}

/// SHA-256 of some parts; each is preceded by its length, so that no two lists of parts are the same.
pub(crate) fn sha256_of_parts<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        context.update(part);
    }
    finish(context)
}

fn finish(context: Context) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(context.finish().as_ref());
    bytes
}
