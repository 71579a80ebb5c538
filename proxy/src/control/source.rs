//! The task that keeps membership and policy: attests, renews before half of the certificate's life is over, follows
//! the stream, and refuses everything only when the certificate has expired.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use palisade_certs::{Svid, TrustBundle};
use palisade_identity::SpiffeId;
use palisade_proto::join_token::JoinToken;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep};

use super::backoff::Patience;
use super::issue::{Issue, Issuer, identity};
use super::state_dir::{KeptSnapshot, StateDir};
use super::stream::{self, End, Told};
use crate::config::status::{Link, Status};
use crate::drain::Drain;
use crate::identity::{Clock, chance, show};
use crate::listen::Addresses;
use crate::live::Live;
use crate::run::RunError;
use crate::settings::control::ControlLimits;
use crate::settings::{JoinTokenSource, Serve};

/// What control-plane mode was told.
#[derive(Clone, Debug)]
pub(crate) struct ControlPlaneSettings {
    pub(crate) address: String,
    pub(crate) join_token: Option<JoinTokenSource>,
    pub(crate) state_dir: Option<PathBuf>,
    pub(crate) advertise: Option<IpAddr>,
    pub(crate) serves: Vec<Serve>,
    pub(crate) addresses: Addresses,
}

/// What the tasks of this source have in common.
#[derive(Debug)]
pub(super) struct Shared<I> {
    pub(super) settings: ControlPlaneSettings,
    pub(super) issuer: I,
    pub(super) limits: ControlLimits,
    pub(super) live: Arc<Live>,
    pub(super) status: Arc<Status>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) drain: Drain,
    pub(super) state: Option<StateDir>,
    /// Generation of the identity in force; 0: there was none yet.
    pub(super) generations: watch::Sender<u64>,
    /// When to ask for the next certificate.
    pub(super) renew_at: watch::Sender<SystemTime>,
    /// Wakes the keeper: the control plane does not know our certificate.
    pub(super) unknown: Notify,
    /// Our identity, from the first certificate on. No later one may have another.
    pub(super) own: OnceLock<SpiffeId>,
}

/// Membership of a mesh with a control plane.
#[derive(Debug)]
pub(crate) struct ControlPlaneSource {
    shared: Shared<Issuer>,
}

impl ControlPlaneSource {
    /// Takes over what an earlier run kept. No network yet.
    pub(crate) fn open(
        settings: ControlPlaneSettings,
        limits: ControlLimits,
        live: Arc<Live>,
        status: Arc<Status>,
        clock: Arc<dyn Clock>,
        drain: Drain,
    ) -> Result<Self, RunError> {
        status.set_link(Link::Disconnected);
        live.experiments.set_heard(false);
        let state = settings.state_dir.as_deref().map(|path| StateDir::open(path, &limits)).transpose()?;
        // A token that cannot be read is told now, not after the certificate expired.
        if let Some(source) = &settings.join_token {
            read_token(source, &limits)?;
        }
        let issuer = Issuer { address: settings.address.clone(), limits: limits.clone() };
        let shared = Shared::new(settings, issuer, limits, live, status, clock, drain, state);
        shared.resume();
        if shared.live.identity().is_none() && shared.settings.join_token.is_none() {
            return Err(RunError::JoinToken(
                "there is neither a join token nor a usable certificate in the state directory; make a token with \
                 `palisade token create` and pass it as --join-token or PALISADE_JOIN_TOKEN"
                    .into(),
            ));
        }
        Ok(Self { shared })
    }

    /// Goes on until membership is refused in a way that trying again cannot mend.
    pub(crate) async fn run(&mut self, refresh: Arc<Notify>, told: Told<'_>) -> Result<(), RunError> {
        tokio::select! {
            refused = Box::pin(self.shared.keep_identity(&refresh)) => refused,
            reason = Box::pin(self.shared.keep_connected(told)) => self.evicted(&reason).await,
        }
    }

    /// Evicted is for good: nothing is served and nothing kept. The process stays, so that `/ready` can say why and
    /// no supervisor starts it again in a loop.
    async fn evicted(&self, reason: &str) -> Result<(), RunError> {
        tracing::error!(
            reason,
            "an operator evicted this instance: nothing is served any more; stop it, or join anew with a new token"
        );
        self.shared.live.evict();
        if let Some(state) = &self.shared.state {
            state.forget();
        }
        std::future::pending().await
    }
}

pub(super) fn read_token(source: &JoinTokenSource, limits: &ControlLimits) -> Result<JoinToken, RunError> {
    let text = match source {
        JoinTokenSource::Text(text) => text.clone(),
        JoinTokenSource::File(path) => {
            let wrong = |error: String| {
                RunError::JoinToken(format!("the join token file {}: {error}", path.display()))
            };
            let size = std::fs::metadata(path).map_err(|error| wrong(error.to_string()))?.len();
            if size > limits.file_bytes_max {
                return Err(wrong("it is too large; is it the right file?".into()));
            }
            std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?
        }
    };
    text.trim().parse().map_err(|error| RunError::JoinToken(format!("{error}")))
}

impl<I: Issue> Shared<I> {
    #[expect(clippy::too_many_arguments, reason = "called once, and once by the tests")]
    pub(super) fn new(
        settings: ControlPlaneSettings,
        issuer: I,
        limits: ControlLimits,
        live: Arc<Live>,
        status: Arc<Status>,
        clock: Arc<dyn Clock>,
        drain: Drain,
        state: Option<StateDir>,
    ) -> Self {
        Self {
            settings,
            issuer,
            limits,
            live,
            status,
            clock,
            drain,
            state,
            generations: watch::Sender::new(0),
            renew_at: watch::Sender::new(SystemTime::UNIX_EPOCH),
            unknown: Notify::new(),
            own: OnceLock::new(),
        }
    }

    /// Identity and snapshot of an earlier run, as far as they can still be used.
    fn resume(&self) {
        let Some(state) = &self.state else { return };
        let Some(member) = state.member() else { return };
        let Ok((svid, bundle)) = member.parts() else { return };
        let now = self.clock.now();
        if let Err(error) = svid.verify(&bundle, now) {
            tracing::warn!(id = %svid.id, %error, "the kept certificate cannot be used any more");
            return;
        }
        if let Err(problem) = self.put_in_force(svid, bundle, false) {
            tracing::warn!(problem, "the kept certificate cannot be used any more");
            return;
        }
        let Some(kept) = state.snapshot() else { return };
        if let Err(findings) = self.apply(&kept) {
            let problem = findings.first().map(|finding| finding.message.clone()).unwrap_or_default();
            state.set_aside_snapshot(&problem);
        }
    }

    /// Makes the next generation of identity. `fresh`: just issued, not found again.
    pub(super) fn put_in_force(&self, svid: Svid, bundle: TrustBundle, fresh: bool) -> Result<(), String> {
        let (id, serial) = (svid.id.clone(), svid.serial.clone());
        let own = self.own.get_or_init(|| id.clone());
        if *own != id {
            return Err(format!("it is for {id}, this proxy is {own}; restart it to change its identity"));
        }
        // Only the control thread makes generations.
        let generation = self.generations.borrow().saturating_add(1);
        let identity = identity(generation, svid, bundle).map_err(|error| error.to_string())?;
        let now = self.clock.now();
        self.renew_at.send_replace(now + identity.validity().renew_in(now, fresh, chance()));
        tracing::info!(
            %id, serial, generation, expires = %show(identity.svid.not_after), "certificate in force"
        );
        self.live.set_identity(identity);
        self.generations.send_replace(generation);
        Ok(())
    }

    /// New roots for the certificate in force.
    pub(super) fn take_bundle(&self, bundle: TrustBundle) {
        let current = self.live.identity().clone();
        let Some(current) = current else { return };
        if current.bundle == bundle {
            return;
        }
        if bundle.trust_domain != current.bundle.trust_domain {
            tracing::error!(domain = %bundle.trust_domain, "trust bundle of another trust domain refused");
            return;
        }
        // The certificate itself has to hold under the new roots, or we would lock ourselves out.
        if let Err(error) = current.svid.verify(&bundle, self.clock.now()) {
            tracing::error!(%error, "trust bundle refused: our certificate does not hold under it; renewing first");
            self.renew_at.send_replace(self.clock.now());
            return;
        }
        let due = *self.renew_at.borrow();
        let roots_pem = bundle.to_pem();
        if let Err(problem) = self.put_in_force(current.svid.clone(), bundle, true) {
            tracing::error!(problem, "trust bundle refused");
            return;
        }
        // New roots do not move the certificate's half life.
        self.renew_at.send_replace(due);
        if let Some(state) = &self.state
            && let Some(mut member) = state.member()
        {
            member.roots_pem = roots_pem;
            state.keep_member(&member);
        }
    }

    pub(super) async fn keep_snapshot(&self, kept: KeptSnapshot) {
        if let Some(state) = self.state.clone() {
            // A slow disk must not hold up the accept loops of this thread.
            let writing = tokio::task::spawn_blocking(move || state.keep_snapshot(&kept));
            if writing.await.is_err() {
                tracing::error!("the snapshot could not be kept");
            }
        }
    }

    /// Follows one stream after the other. Ends with the reason of an eviction.
    async fn keep_connected(&self, told: Told<'_>) -> String {
        let mut patience = Patience::new(
            self.limits.stream_backoff_min,
            self.limits.stream_backoff_max,
            self.limits.warn_interval,
        );
        let mut generations = self.generations.subscribe();
        loop {
            let current = self.live.identity().clone();
            let Some(current) = current else {
                // Generations come from this very thread and end with it.
                let _closed = generations.changed().await;
                continue;
            };
            let began = Instant::now();
            match stream::follow(self, &current, told).await {
                End::Evicted(reason) => return reason,
                End::Renewed => patience.reset(),
                End::Lost { reason, was_open } => {
                    if was_open && began.elapsed() > self.limits.stream_backoff_max {
                        patience.reset();
                    }
                    patience.say(
                        &reason,
                        "no connection to the control plane; policy and certificates in force stay",
                    );
                    self.pause(patience.pause(), &mut generations).await;
                }
                End::Unknown(reason) => {
                    patience.say(
                        &reason,
                        "the control plane does not know our certificate, which stays in force; attesting anew",
                    );
                    self.unknown.notify_one();
                    self.pause(patience.pause(), &mut generations).await;
                }
            }
        }
    }

    /// Waits, but not past a newer certificate: it may be what was missing.
    async fn pause(&self, pause: Duration, generations: &mut watch::Receiver<u64>) {
        generations.mark_unchanged();
        tokio::select! {
            () = sleep(pause) => {}
            _ = generations.changed() => {}
        }
    }
}
