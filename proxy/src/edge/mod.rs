//! What only the edge has: PROXY headers, and what outsiders say of themselves.

pub mod certificates;
pub mod claims;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
pub mod proxy_header;
mod server_config;
