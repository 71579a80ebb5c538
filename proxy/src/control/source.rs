//! The task that keeps membership and policy: attests, renews before half of the certificate's life is over, follows
//! the stream, and refuses everything only when the certificate has expired.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use palisade_certs::TrustBundle;
use palisade_proto::join_token::JoinToken;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep};

use super::backoff::Patience;
use super::issue::{IssueError, Issued, Issuer, identity};
use super::state_dir::{KeptSnapshot, StateDir};
use super::stream::{self, End};
use crate::config::status::{Link, Status};
use crate::drain::Drain;
use crate::identity::{Clock, Identity, Standing};
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
pub(super) struct Shared {
    pub(super) settings: ControlPlaneSettings,
    pub(super) issuer: Issuer,
    pub(super) limits: ControlLimits,
    pub(super) live: Arc<Live>,
    pub(super) status: Arc<Status>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) drain: Drain,
    state: Option<StateDir>,
    /// Generation of the identity in force.
    pub(super) generations: watch::Sender<u64>,
    /// One writer at a time makes the next generation.
    next: Mutex<u64>,
}

/// Membership of a mesh with a control plane.
#[derive(Debug)]
pub(crate) struct ControlPlaneSource {
    shared: Shared,
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
        let state = settings.state_dir.as_deref().map(|path| StateDir::open(path, &limits)).transpose()?;
        // A token that cannot be read is told now, not after the certificate expired.
        if let Some(source) = &settings.join_token {
            read_token(source, &limits)?;
        }
        let issuer = Issuer { address: settings.address.clone(), limits: limits.clone() };
        let shared = Shared {
            settings,
            issuer,
            limits,
            live,
            status,
            clock,
            drain,
            state,
            generations: watch::Sender::new(0),
            next: Mutex::new(0),
        };
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
    pub(crate) async fn run(&mut self, refresh: Arc<Notify>) -> Result<(), RunError> {
        loop {
            if self.shared.live.identity().is_none() {
                self.shared.attest().await?;
            }
            tokio::select! {
                () = self.shared.keep_renewed(&refresh) => {}
                end = self.shared.keep_connected() => match end {
                    End::Evicted(reason) => return self.evicted(&reason).await,
                    End::Unknown(reason) => {
                        tracing::error!(reason, "the control plane does not know our certificate; attesting anew");
                        self.shared.live.remove_identity();
                    }
                    End::Lost { .. } | End::Renewed => {}
                },
            }
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

fn read_token(source: &JoinTokenSource, limits: &ControlLimits) -> Result<JoinToken, RunError> {
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

impl Shared {
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
        if !self.put_in_force(svid, bundle) {
            return;
        }
        let Some(kept) = state.snapshot() else { return };
        if let Err(findings) = self.apply(&kept) {
            let problem = findings.first().map(|finding| finding.message.clone()).unwrap_or_default();
            state.set_aside_snapshot(&problem);
        }
    }

    /// Makes the next generation of identity. False: it could not be used.
    fn put_in_force(&self, svid: palisade_certs::Svid, bundle: TrustBundle) -> bool {
        let mut next = self.next.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let generation = next.saturating_add(1);
        let (id, serial) = (svid.id.clone(), svid.serial.clone());
        match identity(generation, svid, bundle) {
            Ok(identity) => {
                *next = generation;
                self.live.set_identity(identity);
                self.generations.send_replace(generation);
                tracing::info!(%id, serial, generation, "certificate in force");
                true
            }
            Err(error) => {
                tracing::error!(%error, "the certificate cannot be used");
                false
            }
        }
    }

    fn accept(&self, issued: Issued) -> bool {
        let Issued { svid, bundle, member } = issued;
        if let Some(state) = &self.state {
            state.keep_member(&member);
        }
        self.put_in_force(svid, bundle)
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
            tracing::error!(%error, "trust bundle refused: our own certificate does not hold under it");
            return;
        }
        if let Some(state) = &self.state
            && let Some(mut member) = state.member()
        {
            member.roots_pem = bundle.to_pem();
            state.keep_member(&member);
        }
        self.put_in_force(current.svid.clone(), bundle);
    }

    pub(super) fn keep_snapshot(&self, kept: KeptSnapshot) {
        if let Some(state) = self.state.clone() {
            // A slow disk must not hold up the stream.
            state.note_snapshot(kept);
            tokio::task::spawn_blocking(move || state.write_snapshot());
        }
    }

    /// Attests until it worked. An error: it never will.
    async fn attest(&self) -> Result<(), RunError> {
        let mut patience = Patience::new(
            self.limits.issue_backoff_min,
            self.limits.issue_backoff_max,
            self.limits.warn_interval,
        );
        loop {
            let Some(source) = &self.settings.join_token else {
                return Err(RunError::JoinToken(
                    "the certificate has expired and there is no join token to attest anew with; make one with \
                     `palisade token create` and start again"
                        .into(),
                ));
            };
            let token = read_token(source, &self.limits)?;
            match self.issuer.attest(&token, self.clock.now()).await {
                Ok(issued) => {
                    if self.accept(issued) {
                        return Ok(());
                    }
                }
                Err(IssueError::Refused(reason)) => {
                    return Err(RunError::Refused(format!(
                        "the control plane {} does not let this proxy join: {reason}; the join token {} may be \
                         wrong, expired, used up or revoked. Make a new one with `palisade token create`",
                        self.issuer.address, token.id
                    )));
                }
                Err(error) => patience.say(&error, "no certificate yet; trying again"),
            }
            sleep(patience.pause()).await;
        }
    }

    /// Renews for as long as that goes well; ends when the certificate has expired.
    async fn keep_renewed(&self, refresh: &Notify) {
        let mut fresh = false;
        loop {
            let current = self.live.identity().clone();
            let Some(current) = current else { return };
            let due = current.validity().renew_in(self.clock.now(), fresh, crate::identity::chance());
            tokio::select! {
                () = self.sleep_on_clock(due) => {}
                () = refresh.notified() => {}
            }
            if !self.renew(&current).await {
                return;
            }
            fresh = true;
        }
    }

    /// Tries until it worked (true) or the certificate expired (false). The old one stays in force all the while.
    async fn renew(&self, current: &Identity) -> bool {
        let mut patience = Patience::new(
            self.limits.issue_backoff_min,
            self.limits.issue_backoff_max,
            self.limits.warn_interval,
        );
        loop {
            let now = self.clock.now();
            let Standing::Valid { left } = current.validity().standing(now) else {
                tracing::error!(
                    not_after = %crate::identity::show(current.svid.not_after),
                    "the certificate expired and could not be renewed: everything is refused until there is another"
                );
                self.live.remove_identity();
                return false;
            };
            match tokio::time::timeout(left, self.issuer.renew(current, now)).await {
                Ok(Ok(issued)) => {
                    if self.accept(issued) {
                        return true;
                    }
                }
                Ok(Err(error)) => {
                    self.status.renewal_failures.add_one();
                    patience.say(&error, "the certificate is not renewed yet; the old one stays in force");
                }
                Err(_expired) => continue,
            }
            sleep(patience.pause().min(left)).await;
        }
    }

    /// Sleeps in steps, so that a suspended host or a clock that was set is noticed.
    async fn sleep_on_clock(&self, due: Duration) {
        const STEP: Duration = Duration::from_secs(30);
        let until = self.clock.now() + due;
        loop {
            match until.duration_since(self.clock.now()) {
                Ok(left) if !left.is_zero() => sleep(left.min(STEP)).await,
                _ => return,
            }
        }
    }

    /// Follows one stream after the other. Ends only for what another stream cannot mend.
    async fn keep_connected(&self) -> End {
        let mut patience = Patience::new(
            self.limits.stream_backoff_min,
            self.limits.stream_backoff_max,
            self.limits.warn_interval,
        );
        loop {
            let current = self.live.identity().clone();
            let Some(current) = current else {
                // The renewing task ends at the same moment and decides.
                sleep(self.limits.stream_backoff_max).await;
                continue;
            };
            let began = Instant::now();
            match stream::follow(self, &current).await {
                End::Lost { reason, was_open } => {
                    if was_open && began.elapsed() > self.limits.stream_backoff_max {
                        patience.reset();
                    }
                    patience.say(
                        &reason,
                        "no connection to the control plane; policy and certificates in force stay",
                    );
                    sleep(patience.pause()).await;
                }
                End::Renewed => patience.reset(),
                end => return end,
            }
        }
    }
}
