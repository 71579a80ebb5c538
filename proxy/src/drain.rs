//! Stopping without losing a request.

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout_at};

use crate::settings::DrainSettings;
use crate::worker::Activity;

/// Between two looks that must both find nothing under way: a request whose head is being read is not counted yet.
const SETTLE: Duration = Duration::from_millis(50);

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

/// What ended a drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DrainEnd {
    Idle,
    Deadline,
    SecondSignal,
}

/// Goes through all phases to `Forced`. `stops`: a further message means at once.
pub(crate) async fn wind_down(
    phase: &watch::Sender<Phase>,
    settings: DrainSettings,
    activity: &Activity,
    stops: &mut mpsc::Receiver<()>,
) -> DrainEnd {
    let orderly = async {
        phase.send_replace(Phase::Withdrawn);
        tracing::info!(delay = ?settings.withdraw_delay, "draining: withdrawn from the mesh");
        sleep(settings.withdraw_delay).await;
        phase.send_replace(Phase::Draining);
        tracing::info!(deadline = ?settings.deadline, "draining: no new inbound connections");
        let idle = async {
            activity.idle().await;
            sleep(SETTLE).await;
            activity.idle().await;
        };
        match timeout_at(Instant::now() + settings.deadline, idle).await {
            Ok(()) => DrainEnd::Idle,
            Err(_elapsed) => DrainEnd::Deadline,
        }
    };
    let end = tokio::select! {
        end = orderly => end,
        Some(()) = stops.recv() => DrainEnd::SecondSignal,
    };
    phase.send_replace(Phase::Forced);
    match end {
        DrainEnd::Idle => tracing::info!("drained: nothing was left in flight"),
        DrainEnd::Deadline => tracing::warn!("the drain deadline passed: requests in flight are cut"),
        DrainEnd::SecondSignal => tracing::warn!("told to stop a second time: requests in flight are cut"),
    }
    end
}
