//! What Istio decides: its documents, the outcomes of its integration tests, and where it surprises.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "all of this is test code: a surprise must fail the test on the spot"
)]

#[path = "../support/mod.rs"]
mod support;

mod authz;
mod documents;
mod normalization;
mod points;
mod table;
mod validation;

use std::fs;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

/// Our own data of Istio's facts.
fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/istio")
}

#[track_caller]
fn read<T: DeserializeOwned>(file: &Path) -> T {
    let text = fs::read_to_string(file).unwrap();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}
