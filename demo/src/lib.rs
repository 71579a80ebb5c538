//! `palisade demo`: a small mesh of real processes, and scenes played on it.

mod client;
mod docker;
mod door;
mod intruder;
mod lines;
mod load;
mod mesh;
mod ready_file;
mod record;
mod scene;
pub mod service;
mod show;
mod stage;
pub mod yaml;

use std::path::Path;

use anyhow::{Context as _, Result};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

pub use docker::serve_pipe;
pub use mesh::prepare_credentials;
use mesh::{Ledgers, Mesh};
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

/// The mesh that the scenes are played on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum On {
    /// One of its own, of processes on loopback.
    Processes,
    /// The containers of a Compose project that is up, and stays so.
    ComposeProject(String),
}

/// Plays all scenes, one after another.
pub fn run(on: &On, afterwards: Afterwards) -> Result<Verdict> {
    threads()?.block_on(play(on, afterwards))
}

/// Plays none: starts the mesh, with a second instance of the ledger, says in `ready_file` where everything is, and stays up
/// until Ctrl-C or SIGTERM. `palisade rehearse` breaks it meanwhile.
pub fn serve(ready_file: &Path) -> Result<()> {
    threads()?.block_on(async {
        let mut stop = Stop::new()?;
        let mut mesh = tokio::select! {
            mesh = Box::pin(Mesh::start(Ledgers::Two)) => mesh?,
            () = stop.requested() => return Ok(()),
        };
        let served = tokio::select! {
            served = stage::serve(&mut mesh, ready_file) => served,
            () = stop.requested() => Ok(()),
        };
        Box::pin(mesh.stop()).await;
        served
    })
}

fn threads() -> Result<Runtime> {
    let mut threads = tokio::runtime::Builder::new_multi_thread();
    threads.worker_threads(2).enable_all().build().context("cannot start threads")
}

async fn play(on: &On, afterwards: Afterwards) -> Result<Verdict> {
    let mut stop = Stop::new()?;
    let started = Instant::now();
    let of = match on {
        On::Processes => "processes",
        On::ComposeProject(_) => "containers",
    };
    show::heading(&format!(
        "Palisade: an edge, five services with a sidecar each, one control plane; all {of} of their own",
    ));
    let mut mesh = tokio::select! {
        mesh = found_or_started(on) => mesh?,
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

async fn found_or_started(on: &On) -> Result<Mesh> {
    match on {
        On::Processes => Box::pin(Mesh::start(Ledgers::One)).await,
        On::ComposeProject(project) => Box::pin(Mesh::attach(project)).await,
    }
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
