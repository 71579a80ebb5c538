//! A rehearsal from its begin to its end.

use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, anyhow};
use palisade_policy::rehearsal::{Rehearsal, Traffic};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::evidence::{Evidence, Shared};
use crate::faults::{Experiment, Faults};
use crate::judge::{self, Breach};
use crate::load::Generator;
use crate::observe::Observer;
use crate::report::{Report, StepReport, Verdict, plot};
use crate::sample::Window;
use crate::wait::{Early, told};

/// What it takes to play a rehearsal.
#[derive(Debug)]
pub struct Stage<'r, F, T> {
    pub rehearsal: &'r Rehearsal,
    /// Asked where a step has a fault.
    pub faults: F,
    /// Becomes true: everything is mended, and the rehearsal is over.
    pub stop: watch::Receiver<bool>,
    /// Told what happens, a line at a time.
    pub tell: T,
    pub began: SystemTime,
}

impl<F: Faults, T: FnMut(&str)> Stage<'_, F, T> {
    /// Plays it. Whatever comes of it, all that was broken is mended before this returns, or the report says what is not.
    pub async fn play(mut self) -> Report {
        let start = Instant::now();
        let mut report = Report::new(self.rehearsal, self.began);
        let ready = tokio::select! {
            ready = ready(self.rehearsal, &self.faults, start) => ready,
            () = told(&mut self.stop) => Err(anyhow!(Early::Interrupted.why())),
        };
        let (observer, evidence, generator) = match ready {
            Ok(ready) => ready,
            Err(error) => {
                report.end(Verdict::NotBegun, vec![format!("{error:#}")]);
                return report;
            }
        };
        let mut play = Play {
            rehearsal: self.rehearsal,
            faults: &self.faults,
            stop: self.stop,
            start,
            observer,
            evidence,
            // What came before was to make ready.
            judged_from: start.elapsed() + self.rehearsal.warm_up,
            armed: false,
            next_guard: start,
        };
        (self.tell)("requests begin");
        play.all(&mut self.tell, &mut report).await;
        drop(generator);
        play.sum_up(&mut report);
        report
    }
}

/// Everything that a rehearsal looks at, and requests on their way.
async fn ready(
    rehearsal: &Rehearsal,
    faults: &impl Faults,
    start: Instant,
) -> Result<(Observer, Evidence, Option<Generator>)> {
    for (number, step) in (1..).zip(&rehearsal.steps) {
        if let Some(document) = Experiment::of(rehearsal, number).document(step, SystemTime::now()) {
            let taken = faults.check(&document).await;
            taken
                .with_context(|| format!("the fault of step {number} ({}) cannot be injected", step.name))?;
        }
    }
    let observer = Observer::start(rehearsal, start).await?;
    anyhow::ensure!(
        !rehearsal.counts_duplicates() || observer.watches(),
        "duplicate deliveries are asked for, and no observed proxy watches for them: apply a RetryPolicy with duplicates, \
         and observe the sidecar of its service"
    );
    let Traffic::Load(load) = &rehearsal.traffic else { return Ok((observer, Evidence::Live, None)) };
    let samples = Shared::default();
    let generator = Generator::start(load, &samples, start, Rehearsal::REQUESTS_MAX);
    let generator = generator.context("requests cannot be sent")?;
    Ok((observer, Evidence::Load(samples), Some(generator)))
}

/// A rehearsal under way.
pub(crate) struct Play<'r, F> {
    pub(crate) rehearsal: &'r Rehearsal,
    pub(crate) faults: &'r F,
    pub(crate) stop: watch::Receiver<bool>,
    pub(crate) start: Instant,
    pub(crate) observer: Observer,
    pub(crate) evidence: Evidence,
    /// The end of the warm-up.
    pub(crate) judged_from: Duration,
    /// Whether the guard looks on: from when the steady state is known to hold.
    pub(crate) armed: bool,
    pub(crate) next_guard: Instant,
}

impl<F: Faults> Play<'_, F> {
    pub(crate) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    async fn all(&mut self, tell: &mut impl FnMut(&str), report: &mut Report) {
        match self.steady().await {
            Err(early) => return report.end(Verdict::NotBegun, vec![early.why()]),
            Ok((window, breaches)) => {
                report.steady = Some(window);
                if !breaches.is_empty() {
                    let why =
                        breaches.iter().map(|breach| format!("the steady state does not hold: {breach}"));
                    return report.end(Verdict::NotBegun, why.collect());
                }
            }
        }
        tell("the steady state holds");
        self.armed = true;
        self.next_guard = Instant::now();
        for (number, step) in (1..).zip(&self.rehearsal.steps) {
            tell(&format!("{}, for {}", step.name, judge::shown(step.length)));
            let (done, early) = self.step(step, &Experiment::of(self.rehearsal, number)).await;
            report.steps.push(done);
            if let Some(early) = early {
                return report.end(early.verdict(), vec![early.why()]);
            }
        }
        let held = report.steps.iter().all(StepReport::held);
        report.end(if held { Verdict::Held } else { Verdict::Broken }, Vec::new());
    }

    /// What the steady state is like before anything is broken, and what does not hold.
    async fn steady(&mut self) -> Result<(Window, Vec<Breach>), Early> {
        let from = self.judged_from;
        let to = from.saturating_add(self.rehearsal.window);
        self.watched(sleep_until(self.start + to)).await?;
        let window = self.requests(from, to).await?;
        let mut breaches = judge::requests(&self.rehearsal.steady, &window);
        let counted = self.counts(from, to).await?;
        breaches.extend(judge::counts(&self.rehearsal.steady, counted.as_ref()));
        Ok((window, breaches))
    }

    fn sum_up(&self, report: &mut Report) {
        let now = self.now();
        report.length = now;
        report.not_played =
            self.rehearsal.steps.iter().skip(report.steps.len()).map(|step| step.name.clone()).collect();
        report.whole = self.evidence.known(&self.observer, self.judged_from, now);
        if let Evidence::Load(samples) = &self.evidence {
            report.generator_late = Some(samples.lock().late());
        }
        report.points = plot::points(&self.evidence, &self.observer, now);
    }
}
