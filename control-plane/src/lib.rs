//! The control plane: gives workloads their certificates, keeps policy, and pushes to each proxy what concerns it.

pub mod clock;
mod data_dir;
mod error;
pub mod limits;
mod run;
mod settings;
#[allow(dead_code, reason = "used by the services")]
mod store;

pub use data_dir::DataDirError;
pub use error::StartError;
pub use run::run;
pub use settings::{OnReady, Ready, SVID_TTL_MAX, SVID_TTL_MIN, Settings};
