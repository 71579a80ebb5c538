//! What end-to-end tests stand on: real `palisade` processes on loopback, services that remember what reached them,
//! and clients that may misbehave.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::print_stderr,
    reason = "all of this crate is test code: a surprise must fail the test on the spot"
)]

pub mod client;
pub mod collector;
pub mod documents;
pub mod fake_control_plane;
pub mod grpc;
pub mod jwks;
pub mod loopback;
pub mod member;
pub mod mesh_server;
pub mod narrow;
pub mod outside;
pub mod patient;
pub mod process;
pub mod raw_h2;
pub mod scripted;
pub mod sidecar;
pub mod tcp;
pub mod upstream;
pub mod wait;
pub mod wild;
pub mod world;

pub use collector::Collector;
pub use fake_control_plane::FakeControlPlane;
pub use member::Member;
pub use mesh_server::MeshServer;
pub use narrow::Narrow;
pub use outside::Outside;
pub use patient::Patient;
pub use scripted::Scripted;
pub use sidecar::{Sidecar, SidecarBuilder};
pub use tcp::TcpService;
pub use upstream::Upstream;
pub use wait::{DEADLINE, until};
pub use wild::Wild;
pub use world::World;
