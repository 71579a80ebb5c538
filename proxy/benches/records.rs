//! What a decision record costs the worker, its metrics included: opened, filled, and formatted when it is dropped.
//! `cargo bench -p palisade-proxy --features fuzzing --bench records`

#![allow(clippy::expect_used, reason = "a bench without its log has nothing to measure")]

use divan::{AllocProfiler, Bencher};
use palisade_proxy::fuzzing::Scribe;

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

#[divan::bench]
fn of_an_allowed_request(bencher: Bencher<'_, '_>) {
    let folder = tempfile::tempdir().expect("a folder");
    let scribe = Scribe::new(&folder.path().join("access.log")).expect("a log");
    bencher.bench_local(|| scribe.record());
}
