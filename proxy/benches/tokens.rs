//! What it costs to believe a token: one that was never seen, by its algorithm, and one that was verified before.
//! `cargo bench -p palisade-proxy --features fuzzing`

#![allow(clippy::expect_used, reason = "a bench without its token has nothing to measure")]

use divan::{Bencher, black_box};
use palisade_proxy::fuzzing::{Memory, SIGNED, is_signed};

fn main() {
    divan::main();
}

/// The example of an RFC: 2048 bits where it is RSA, P-256 where it is a curve.
fn token(algorithm: &str) -> &'static [u8] {
    let place = ["HS256", "RS256", "ES256", "EdDSA"].iter().position(|known| *known == algorithm);
    let line = place.and_then(|place| SIGNED.lines().nth(place));
    line.expect("a token of every algorithm").as_bytes()
}

#[divan::bench(args = ["HS256", "RS256", "ES256", "EdDSA"])]
fn never_seen(bencher: Bencher<'_, '_>, algorithm: &str) {
    let token = token(algorithm);
    assert!(is_signed(token));
    bencher.bench(|| is_signed(black_box(token)));
}

#[divan::bench(args = ["HS256", "RS256", "ES256", "EdDSA"])]
fn verified_before(bencher: Bencher<'_, '_>, algorithm: &str) {
    let token = token(algorithm);
    let memory = Memory::default();
    memory.put(token);
    bencher.bench_local(|| memory.knows(black_box(token)));
}
