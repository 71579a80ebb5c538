//! What documents lead to, beside whether they are well-formed: open doors, rules that do nothing, rules that do more
//! than they say.
//!
//! Works on a set without errors, offline. A finding about a hole is given where it cannot be shown that there is none;
//! every other finding only where what it says surely holds.

mod access;
mod cors;
mod destinations;
mod edge;
mod experiments;
mod guards;
mod ignore;
mod limits;
mod paths;
mod pattern;
mod plaintext;
pub mod posture;
mod protection;
mod repeats;
mod requests;
mod routes;
mod rule_cover;
mod rules;
mod scopes;
mod selection;
mod server_names;
mod shape;
mod spellings;
mod tcp;
mod traffic;
mod upstreams;
mod world;

use std::collections::BTreeMap;
use std::time::SystemTime;

use crate::document::Places;
use crate::finding::problem::Problems;
use crate::finding::{Finding, Findings};
use crate::kind::Object;
use world::World;

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// In the order of files, lines and codes.
    pub findings: Findings,
    /// Findings that an annotation of their object ignores.
    pub ignored: Vec<Ignored>,
}

/// A finding that somebody has looked at and accepted.
#[derive(Clone, Debug)]
pub struct Ignored {
    pub finding: Finding,
    pub reason: String,
}

/// The annotation of an object that ignores findings about it: `PAL3004: the reason`, one to a line.
pub const IGNORE_ANNOTATION: &str = "palisade.mesh/lint-ignore";

/// Looks at all objects together, at the time `now`. They are those of one [`crate::PolicySet`], or would be.
pub fn lint(objects: &[Object], now: SystemTime) -> Report {
    let objects = in_order(objects);
    let world = World::new(&objects);
    let mut desk = Desk::default();
    protection::check(&world, &mut desk);
    scopes::check(&world, &mut desk);
    limits::check(&world, &mut desk);
    guards::check(&world, &mut desk);
    cors::check(&world, &mut desk);
    routes::check(&world, &mut desk);
    upstreams::check(&world, &mut desk);
    destinations::check(&world, &mut desk);
    access::check(&world, &mut desk);
    rules::check(&world, &mut desk);
    plaintext::check(&world, &mut desk);
    paths::check(&world, &mut desk);
    tcp::check(&world, &mut desk);
    traffic::check(&world, &mut desk);
    server_names::check(&world, &mut desk);
    shape::check(&world, &mut desk);
    spellings::check(&world, &mut desk);
    repeats::check(&world, &mut desk);
    experiments::check(&world, now, &mut desk);
    let mut report = Report::default();
    for (index, object) in objects.iter().copied().enumerate() {
        let problems = desk.0.remove(&index).unwrap_or_default();
        ignore::sort_out(object, placed(object, problems), &mut report);
    }
    report.findings.0.sort_by_cached_key(order);
    report.ignored.sort_by_cached_key(|ignored| order(&ignored.finding));
    report
}

/// By place, so that the order in which files were named changes nothing.
fn in_order(objects: &[Object]) -> Vec<&Object> {
    let mut sorted: Vec<&Object> = objects.iter().collect();
    sorted.sort_by_cached_key(|object| {
        let place = object.position.as_ref().map(|p| (p.file.clone(), p.line));
        (place, world::title(object))
    });
    sorted
}

type Order = (Option<(String, usize, usize)>, &'static str, String, String);

fn order(finding: &Finding) -> Order {
    let place = finding.position.as_ref().map(|p| (p.file.clone(), p.line, p.column));
    (place, finding.code, finding.path.clone(), finding.message.clone())
}

fn placed(object: &Object, problems: Problems) -> Findings {
    let mut findings = Findings::default();
    if !problems.is_empty() {
        let places = Places::new(object);
        let title = world::title(object);
        problems.place(Some(&title), |path| places.find(path), &mut findings);
    }
    findings
}

/// Where findings are put down, by the place of the object that they are about.
#[derive(Debug, Default)]
struct Desk(BTreeMap<usize, Problems>);

impl Desk {
    fn about(&mut self, index: usize) -> &mut Problems {
        self.0.entry(index).or_default()
    }
}
