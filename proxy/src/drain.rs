//! Stopping without losing a request.

use tokio::sync::watch;

/// Where the process is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    #[default]
    Serving,
    /// Withdrawn from the mesh; new inbound connections are still taken until callers have heard.
    Withdrawn,
    /// Accepts nothing inbound; keep-alive ends; requests in flight go on. Outbound stays open for the application.
    Draining,
    /// The deadline passed: everything is closed.
    Forced,
}

/// Tells everything about the phase. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Drain(watch::Receiver<Phase>);

impl Drain {
    pub fn new() -> (watch::Sender<Phase>, Self) {
        let (sender, receiver) = watch::channel(Phase::default());
        (sender, Self(receiver))
    }

    pub fn phase(&self) -> Phase {
        *self.0.borrow()
    }

    /// Waits until the phase is at least `phase`. Never returns early; a dropped sender counts as `Forced`.
    pub async fn reached(&mut self, phase: Phase) {
        let _closed = self.0.wait_for(|now| *now >= phase).await;
    }
}
