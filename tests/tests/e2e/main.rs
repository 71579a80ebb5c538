//! End-to-end tests: real `palisade` processes on loopback. One file per behaviour.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::print_stderr,
    reason = "all of this is test code: a surprise must fail the test on the spot"
)]

mod applies;
mod authorization;
mod bad_documents;
mod bad_flags;
mod data_dir;
mod demo;
mod deny_by_default;
mod destination_rule;
mod edge;
mod eviction;
mod experiments;
mod explain_record;
mod explain_wire;
mod false_control_plane;
mod fleet;
mod framing;
mod guard;
mod headers;
mod history;
mod hostile_upstream;
mod istio;
mod join;
mod join_token;
mod jwt_policy;
mod key_sources;
mod kinds;
mod kit;
mod lifecycle;
mod limits;
mod lint;
mod live;
mod metrics;
mod mutual_tls;
mod observers;
mod outage;
mod outbound;
mod paths;
mod privacy;
mod protocols;
mod push;
mod readiness;
mod records;
mod registry;
mod reload;
mod renewal;
mod revocation;
mod rolling;
mod snapshots;
mod store;
mod streaming;
mod tcp;
mod tokens;
mod traces;
mod traffic;
mod virtual_service;
mod wire;

/// The binary under test: the same program as `palisade`.
const PALISADE: &str = env!("CARGO_BIN_EXE_palisade-under-test");
