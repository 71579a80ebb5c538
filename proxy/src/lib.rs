//! The data plane: a sidecar today, the edge with the same stages.

pub mod admin;
pub mod calls;
pub mod concurrency;
pub mod config;
mod control;
pub mod drain;
pub mod edge;
pub mod error;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod health;
pub mod http;
pub mod identity;
pub mod jwt;
pub mod limit;
pub mod listen;
pub mod live;
mod load;
pub mod pipeline;
mod ready_file;
pub mod run;
pub mod settings;
pub mod stage;
pub mod telemetry;
pub mod upstream;
pub mod watch;
pub mod worker;

pub use run::{RunError, run};
pub use settings::Settings;
