//! Keeps the identity: attests, renews at half life, holds on to the old certificate until it expires, then refuses.

use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::backoff::Patience;
use super::issue::{Issue, IssueError, Issued};
use super::source::{Shared, read_token};
use crate::identity::{Identity, Standing, show};
use crate::run::RunError;

/// The longest sleep: tokio's clock stands still while a host is suspended, the certificate's does not.
const NAP_MAX: Duration = Duration::from_secs(30);

/// Why there is no newer certificate.
enum Trouble {
    /// The evidence itself is at fault: before the first certificate, that ends the process.
    Evidence(RunError),
    Other(String),
}

/// What a certificate in force needs next.
enum Step {
    Renew,
    /// The control plane does not know it: evidence is needed again.
    Attest,
    Expired,
    /// It was replaced meanwhile.
    Replaced,
}

impl<I: Issue> Shared<I> {
    /// Ends only before the first certificate, with an error that trying again cannot mend. Later nothing ends it:
    /// a proxy without certificate refuses everything and says so in `/ready`.
    pub(super) async fn keep_identity(&self, refresh: &Notify) -> Result<(), RunError> {
        let limits = &self.limits;
        let mut patience =
            Patience::new(limits.issue_backoff_min, limits.issue_backoff_max, limits.warn_interval);
        loop {
            let current = self.live.identity().clone();
            let result = match &current {
                None => self.attest().await,
                Some(current) => match self.next_step(current, refresh).await {
                    Step::Renew => self.renew(current).await,
                    Step::Attest => self.attest().await,
                    Step::Replaced => continue,
                    Step::Expired => {
                        self.expire(current);
                        continue;
                    }
                },
            };
            let problem = match result {
                Ok(()) => {
                    patience.reset();
                    continue;
                }
                Err(Trouble::Evidence(error)) if self.own.get().is_none() => return Err(error),
                Err(Trouble::Evidence(error)) => error.to_string(),
                Err(Trouble::Other(problem)) => problem,
            };
            self.status.renewal_failures.add_one();
            let pause = patience.pause();
            if current.is_some() {
                patience
                    .say(&problem, "no newer certificate yet; the old one stays in force until it expires");
                self.renew_at.send_replace(self.clock.now() + pause);
            } else {
                patience.say(&problem, "no certificate: not ready, everything is refused; trying again");
                tokio::select! {
                    () = sleep(pause) => {}
                    () = refresh.notified() => {}
                }
            }
        }
    }

    /// Waits until something has to be done about the certificate in force.
    async fn next_step(&self, current: &Identity, refresh: &Notify) -> Step {
        let mut generations = self.generations.subscribe();
        let mut renew_at = self.renew_at.subscribe();
        loop {
            if *generations.borrow_and_update() != current.generation {
                return Step::Replaced;
            }
            let now = self.clock.now();
            let due = *renew_at.borrow_and_update();
            let left = match current.validity().standing(now) {
                Standing::Expired => return Step::Expired,
                Standing::Valid { left } => left,
                // Our clock was set back. Peers decide; it may be set right again.
                Standing::NotYetValid => NAP_MAX,
            };
            let wait = match due.duration_since(now) {
                Ok(wait) if !wait.is_zero() => wait,
                _ => return Step::Renew,
            };
            tokio::select! {
                () = sleep(wait.min(left).min(NAP_MAX)) => {}
                () = refresh.notified() => return Step::Renew,
                () = self.unknown.notified() => return Step::Attest,
                _ = generations.changed() => {}
                _ = renew_at.changed() => {}
            }
        }
    }

    async fn renew(&self, current: &Identity) -> Result<(), Trouble> {
        let now = self.clock.now();
        let left = current.svid.not_after.duration_since(now).unwrap_or_default();
        match timeout(left, self.issuer.renew(current, now)).await {
            Ok(Ok(issued)) => self.accept(issued),
            Ok(Err(error)) => Err(Trouble::Other(error.to_string())),
            Err(_expired) => Err(Trouble::Other("the certificate expired meanwhile".into())),
        }
    }

    async fn attest(&self) -> Result<(), Trouble> {
        let Some(source) = &self.settings.join_token else {
            return Err(Trouble::Evidence(RunError::JoinToken(
                "there is no join token to attest with; make one with `palisade token create` and start again".into(),
            )));
        };
        // Read each time: a file may have been given a new one.
        let token = read_token(source, &self.limits).map_err(Trouble::Evidence)?;
        match self.issuer.attest(&token, self.clock.now()).await {
            Ok(issued) => self.accept(issued),
            Err(IssueError::Refused(reason)) => Err(Trouble::Evidence(RunError::Refused(format!(
                "the control plane {} does not let this proxy join: {reason}; the join token {} may be wrong, \
                 expired, used up or revoked. Make a new one with `palisade token create`",
                self.settings.address, token.id
            )))),
            Err(error) => Err(Trouble::Other(error.to_string())),
        }
    }

    fn accept(&self, issued: Issued) -> Result<(), Trouble> {
        let Issued { svid, bundle, member } = issued;
        self.put_in_force(svid, bundle, true).map_err(|problem| {
            Trouble::Other(format!("the certificate that was issued is refused: {problem}"))
        })?;
        if let Some(state) = &self.state {
            state.keep_member(&member);
        }
        Ok(())
    }

    fn expire(&self, current: &Identity) {
        tracing::error!(
            id = %current.svid.id, not_after = %show(current.svid.not_after),
            "the certificate expired and could not be renewed: everything is refused until there is another"
        );
        self.live.remove_identity();
    }
}
