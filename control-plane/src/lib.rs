//! The control plane: gives workloads their certificates, keeps policy, and pushes to each proxy what concerns it.
//!
//! ```text
//! server (TLS, who is there) -> identity       join token or certificate -> ca -> store (audit)
//!                            -> configuration  registry <- hello, readiness;  world -> snapshots
//!                            -> admin          policies -> store -> world
//! ```

mod admin;
mod background;
mod ca;
pub mod clock;
mod configuration;
mod context;
mod data_dir;
mod error;
mod http_admin;
mod identity;
pub mod limits;
mod metrics;
mod peer;
mod policies;
mod registry;
mod run;
mod server;
mod settings;
mod store;
mod world;

pub use ca::CaError;
pub use data_dir::DataDirError;
pub use error::StartError;
pub use policies::LoadError;
pub use run::run;
pub use settings::{OnReady, Ready, SVID_TTL_MAX, SVID_TTL_MIN, Settings};
pub use store::StoreError;
