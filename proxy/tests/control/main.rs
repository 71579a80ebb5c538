//! The control thread of a proxy against real files, real sockets and a scripted control plane.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "all of this is test code: a surprise must fail the test on the spot"
)]

mod files;
mod member;
mod plane;
mod state;
mod support;
