//! What becomes of requests when their upstreams do not behave. Real `palisade` processes on loopback; what counts is what
//! the upstream received.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::print_stdout,
    reason = "all of this is test code: a surprise must fail the test on the spot"
)]

mod breaker;
mod budget;
mod chance;
mod concurrency;
mod deadlines;
mod duplicates;
mod ejection;
mod experiments;
mod hash;
mod health;
mod hops;
mod keys;
mod kit;
mod once;
mod pools;
mod refusals;
mod rehearsals;
mod rolling;
mod sidecars;
mod silence;

/// The binary under test: the same program as `palisade`.
const PALISADE: &str = env!("CARGO_BIN_EXE_palisade-under-test");
