//! The control plane in process, over real sockets, TLS and gRPC.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    missing_debug_implementations,
    unreachable_pub,
    reason = "clippy's exemption of tests does not reach the helpers of an integration test"
)]

mod configuration;
mod identity;
mod policy;
mod refusals;
mod restart;
mod world;
