//! One step: something is broken, looked at, and mended.

use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Error, anyhow};
use palisade_policy::rehearsal::{Command, Flap, Step};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use crate::command;
use crate::evidence::{Recovered, Recovery};
use crate::faults::{Experiment, Faults};
use crate::judge::{self, Breach};
use crate::play::Play;
use crate::report::{Opened, StepReport};
use crate::wait::Early;

/// Between two questions whether the system has recovered.
const GRAIN: Duration = Duration::from_millis(100);
/// Between two tries to end a fault.
const PAUSE: Duration = Duration::from_millis(250);

impl<F: Faults> Play<'_, F> {
    /// Plays a step. With it comes why there is to be no other, where that is so.
    pub(crate) async fn step(&mut self, step: &Step, experiment: &Experiment) -> (StepReport, Option<Early>) {
        // A fault is there when proxies have it, a command from when it runs.
        let injected = self.inject(step, experiment).await;
        let begin = self.now();
        let broken = match injected {
            Ok(()) => self.break_for(step).await,
            Err(early) => Err(early),
        };
        let end = self.now();
        // Now, whatever came of it. Nobody interrupts this; it has a deadline of its own.
        let mended = mend(step, experiment, self.faults).await;
        let mended_at = self.now();
        let mut early = match (broken, mended) {
            (Ok(()), Ok(())) => None,
            (Err(early), Ok(())) => Some(early),
            (Ok(()), Err(error)) => Some(Early::Failed(error)),
            // What is still broken matters more than why it was to be mended.
            (Err(early), Err(error)) => Some(Early::Failed(both(error, &early.why()))),
        };
        let mut report = StepReport::new(step, begin, end);
        if early.is_none() {
            early = self.recover(mended_at, &mut report).await.err();
        }
        if early.is_none() {
            early = self.settle(&mut report).await.err();
        }
        self.judge(step, experiment, &mut report);
        match &early {
            None => report.complete = true,
            // It may not be what the step was to hold.
            Some(Early::Guard(breach)) if !report.breaches.contains(breach) => {
                report.breaches.push(breach.clone());
            }
            Some(_) => {}
        }
        (report, early)
    }

    /// Returns when proxies have the fault, if there is one.
    async fn inject(&mut self, step: &Step, experiment: &Experiment) -> Result<(), Early> {
        let faults = self.faults;
        let Some(document) = experiment.document(step, SystemTime::now()) else { return Ok(()) };
        let begun = timeout(Step::FAULT_TIMEOUT, faults.begin(&document));
        let begun = self.watched(begun).await?.context("the control plane does not answer");
        begun.flatten().context("the fault is not injected").map_err(Early::Failed)
    }

    /// Runs the command, if there is one, and returns when all has been broken for long enough.
    async fn break_for(&mut self, step: &Step) -> Result<(), Early> {
        if let Some(command) = &step.command {
            self.watched(command::run(&command.run, command.timeout)).await?.map_err(Early::Failed)?;
        }
        let end = Instant::now() + step.length;
        match &step.command {
            Some(Command { run, undo, timeout, flap: Some(flap) }) => {
                self.flap(run, undo, *timeout, *flap, end).await
            }
            _ => self.watched(sleep_until(end)).await,
        }
    }

    /// What is broken is mended and broken again until then.
    async fn flap(
        &mut self,
        run: &[String],
        undo: &[String],
        timeout: Duration,
        flap: Flap,
        end: Instant,
    ) -> Result<(), Early> {
        loop {
            for (pause, next) in [(flap.down, undo), (flap.up, run)] {
                if Instant::now() + pause >= end {
                    return self.watched(sleep_until(end)).await;
                }
                self.watched(sleep(pause)).await?;
                self.watched(command::run(next, timeout)).await?.map_err(Early::Failed)?;
            }
        }
    }

    /// Waits until the steady state holds again.
    async fn recover(&mut self, from: Duration, report: &mut StepReport) -> Result<(), Early> {
        let rehearsal = self.rehearsal;
        let mut recovery = Recovery::new(from, rehearsal.window, rehearsal.recover_within);
        loop {
            let seen = |from, to| self.evidence.of(&self.observer, from, to);
            match recovery.look(self.now(), &rehearsal.steady, seen) {
                Recovered::NotYet => self.watched(sleep(GRAIN)).await?,
                Recovered::After(length) => {
                    report.recovered_after = Some(length);
                    return Ok(());
                }
                Recovered::NotInTime => {
                    report.breaches.push(Breach::NotRecovered { within: rehearsal.recover_within });
                    return Err(Early::NotRecovered);
                }
            }
        }
    }

    /// Waits until all is known of what was sent and delivered. What comes twice may do so late, until now.
    async fn settle(&mut self, report: &mut StepReport) -> Result<(), Early> {
        let until = self.now();
        report.window = Some(self.requests(report.begin, report.end).await?);
        report.counted = Some(self.counts(report.begin, until).await?);
        Ok(())
    }

    /// What held and what did not. Of a step that ended early, by what is known.
    fn judge(&mut self, step: &Step, experiment: &Experiment, report: &mut StepReport) {
        let known = || self.evidence.known(&self.observer, report.begin, report.end);
        let window = report.window.take().unwrap_or_else(known);
        let counted = report.counted.take().unwrap_or_else(|| Ok(self.observer.counts_since(report.begin)));
        let opening = self.observer.opening(report.begin);
        report.opened = opening.map(|opening| Opened::after(report.begin, opening));
        report.breaches.extend(judge::requests(&step.hold, &window));
        report.breaches.extend(judge::counts(&step.hold, counted.as_ref()));
        report.breaches.extend(judge::breaker(&step.hold, report.opened.as_ref().map(|opened| opened.after)));
        if step.fault.is_some() {
            let injected = self.observer.injected_since(report.begin, &experiment.id());
            report.breaches.extend((injected == 0).then_some(Breach::NothingInjected));
            report.injected = Some(injected);
        }
        (report.window, report.counted) = (Some(window), Some(counted));
    }
}

/// All of it, whatever becomes of the parts.
async fn mend(step: &Step, experiment: &Experiment, faults: &impl Faults) -> Result<(), Error> {
    let undone = match &step.command {
        Some(command) => command::run(&command.undo, command.timeout).await,
        None => Ok(()),
    };
    let undone = undone.context("what was broken is not mended; do it by hand");
    let ended = match &step.fault {
        Some(_) => end(experiment, faults).await,
        None => Ok(()),
    };
    let length = step.fault_length_max();
    let id = experiment.id();
    let ended = ended.with_context(|| {
        format!("the fault may still be injected; it ends by itself within {length:?}, or by palisade fault stop {id}")
    });
    match (undone, ended) {
        (Err(undone), Err(ended)) => Err(both(undone, &format!("{ended:#}"))),
        (undone, ended) => undone.and(ended),
    }
}

fn both(error: Error, other: &str) -> Error {
    anyhow!("{error:#}; and {other}")
}

/// Tries again for a while: the control plane may just be coming back.
async fn end(experiment: &Experiment, faults: &impl Faults) -> Result<(), Error> {
    let deadline = Instant::now() + Step::FAULT_TIMEOUT;
    loop {
        let ended = timeout_at(deadline, faults.end(&experiment.id())).await;
        match ended.context("the control plane does not answer").flatten() {
            Err(_) if Instant::now() + PAUSE < deadline => sleep(PAUSE).await,
            ended => return ended,
        }
    }
}
