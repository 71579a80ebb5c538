//! `palisade demo`: a small mesh of real processes, and scenes played on it.

mod client;
mod intruder;
mod lines;
mod load;
mod mesh;
mod ready_file;
mod record;
mod scene;
pub mod service;
mod show;
pub mod yaml;

use anyhow::{Context as _, Result};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use mesh::Mesh;
use scene::{Report, SCENES};

/// What the demo does after its scenes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Afterwards {
    /// Stays up until Ctrl-C or SIGTERM.
    StayUp,
    Stop,
}

/// How a demo ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything came as expected.
    Passed,
    /// Some scenes differed; each has been printed with what was expected.
    Differed { scenes: usize },
    /// Ctrl-C or SIGTERM came before the last scene.
    Interrupted,
}

/// Plays all scenes, one after another, on a mesh of its own.
pub fn run(afterwards: Afterwards) -> Result<Verdict> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start threads")?;
    runtime.block_on(play(afterwards))
}

async fn play(afterwards: Afterwards) -> Result<Verdict> {
    let mut stop = Stop::new()?;
    let started = Instant::now();
    show::heading(
        "Palisade: an edge, five services with a sidecar each, one control plane; all processes of their own",
    );
    let mut mesh = tokio::select! {
        mesh = Mesh::start() => mesh?,
        () = stop.requested() => return Ok(Verdict::Interrupted),
    };
    show::note(&format!("the mesh is up after {:.1} s", started.elapsed().as_secs_f32()));
    // The mesh is stopped in order, whatever the scenes end with.
    let verdict = tokio::select! {
        verdict = scenes(&mut mesh) => Ok(verdict),
        () = stop.requested() => Ok(Verdict::Interrupted),
    };
    let verdict = match verdict {
        Ok(verdict) if afterwards == Afterwards::StayUp && verdict != Verdict::Interrupted => {
            let printed = lines::print(&mesh);
            show::heading("\nThe mesh stays up. Ctrl-C stops it.");
            stop.requested().await;
            printed.map(|()| verdict)
        }
        other => other,
    };
    Box::pin(mesh.stop()).await;
    verdict
}

async fn scenes(mesh: &mut Mesh) -> Verdict {
    let mut differed = 0;
    for (number, scene) in (1..).zip(&SCENES) {
        let outcome = (scene.play)(mesh).await;
        show::scene(number, scene, &outcome);
        if !outcome.is_ok_and(|report: Report| report.passed()) {
            differed += 1;
        }
    }
    show::heading(&format!("\n{} of {} scenes as expected", SCENES.len() - differed, SCENES.len()));
    if differed == 0 { Verdict::Passed } else { Verdict::Differed { scenes: differed } }
}

/// Ctrl-C and SIGTERM.
#[derive(Debug)]
struct Stop {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Stop {
    fn new() -> Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).context("cannot listen for Ctrl-C")?,
            terminate: signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?,
        })
    }

    async fn requested(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
