//! End-to-end tests: real `palisade` processes on loopback. One file per behaviour.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::as_conversions,
    reason = "all of this is test code: a surprise must fail the test on the spot"
)]

/// The binary under test: the same program as `palisade`.
const PALISADE: &str = env!("CARGO_BIN_EXE_palisade-under-test");

// Data plane, on files: mtls, authorization, headers, smuggling, paths, outbound, http2, grpc, streaming, upgrade,
// records, rotation, drain, file_mode, service_entry.

// With a control plane: join_token, registry, privacy, push, outage, eviction, bad_input, store, applies, cli.
