//! One step: something is broken, looked at, and mended.

use std::time::Duration;

use anyhow::Error;
use palisade_policy::rehearsal::{Command, Step};
use tokio::time::{Instant, sleep, sleep_until};

use crate::command;
use crate::evidence::{Recovered, Recovery};
use crate::judge::{self, Breach};
use crate::play::Play;
use crate::report::{Opened, StepReport};
use crate::wait::Early;

/// Between two questions whether the system has recovered.
const GRAIN: Duration = Duration::from_millis(100);

impl Play<'_> {
    /// Plays a step. With it comes why there is to be no other, where that is so.
    pub(crate) async fn step(&mut self, step: &Step) -> (StepReport, Option<Early>) {
        let begin = self.now();
        let broken = self.break_for(step).await;
        let end = self.now();
        // Now, whatever came of it. Nobody interrupts this; it has a deadline of its own.
        let mended = mend(&step.command).await;
        let mended_at = self.now();
        let mut early = match (broken, mended) {
            // What is still broken matters more than why it was to be mended.
            (_, Err(error)) => Some(Early::Failed(error)),
            (Err(early), Ok(())) => Some(early),
            (Ok(()), Ok(())) => None,
        };
        let mut report = StepReport::new(step, begin, end);
        if early.is_none() {
            early = self.recover(mended_at, &mut report).await.err();
        }
        if early.is_none() {
            early = self.settle(&mut report).await.err();
        }
        self.judge(step, &mut report);
        (report, early)
    }

    /// Breaks it, and returns when it has been broken for long enough.
    async fn break_for(&mut self, step: &Step) -> Result<(), Early> {
        let Command { run, undo, timeout, flap } = &step.command;
        self.watched(command::run(run, *timeout)).await?.map_err(Early::Failed)?;
        let end = Instant::now() + step.length;
        let Some(flap) = flap else { return self.watched(sleep_until(end)).await };
        loop {
            for (pause, next) in [(flap.down, undo), (flap.up, run)] {
                if Instant::now() + pause >= end {
                    return self.watched(sleep_until(end)).await;
                }
                self.watched(sleep(pause)).await?;
                self.watched(command::run(next, *timeout)).await?.map_err(Early::Failed)?;
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
        report.counted = Some(self.duplicates(report.begin, until).await?);
        Ok(())
    }

    /// What held and what did not. Of a step that ended early, by what is known.
    fn judge(&mut self, step: &Step, report: &mut StepReport) {
        let known = || self.evidence.known(&self.observer, report.begin, report.end);
        let window = report.window.take().unwrap_or_else(known);
        let counted =
            report.counted.take().unwrap_or_else(|| Ok(self.observer.duplicates_since(report.begin)));
        let opening = self.observer.opening(report.begin);
        report.opened = opening.map(|opening| Opened::after(report.begin, opening));
        report.breaches.extend(judge::requests(&step.hold, &window));
        report.breaches.extend(judge::deliveries(&step.hold, counted.as_ref()));
        report.breaches.extend(judge::breaker(&step.hold, report.opened.as_ref().map(|opened| opened.after)));
        (report.window, report.counted) = (Some(window), Some(counted));
    }
}

async fn mend(command: &Command) -> Result<(), Error> {
    let undone = command::run(&command.undo, command.timeout).await;
    undone.map_err(|error| error.context("what was broken is not mended; do it by hand"))
}
