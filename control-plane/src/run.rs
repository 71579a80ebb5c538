//! From settings to a running control plane, and its end.

use std::future::Future;

use crate::data_dir::DataDir;
use crate::error::StartError;
use crate::settings::{SVID_TTL_MAX, SVID_TTL_MIN, Settings};

/// Runs a control plane until `shutdown` is ready. An error comes before [`Settings::on_ready`] is called, or when
/// a listener fails for good.
pub async fn run(settings: Settings, shutdown: impl Future<Output = ()> + Send) -> Result<(), StartError> {
    check(&settings)?;
    let _data_dir = DataDir::open(&settings.data_dir)?;
    shutdown.await;
    Ok(())
}

fn check(settings: &Settings) -> Result<(), StartError> {
    if !(SVID_TTL_MIN..=SVID_TTL_MAX).contains(&settings.svid_ttl) {
        return Err(StartError::SvidTtl(settings.svid_ttl));
    }
    if !settings.admin.ip().is_loopback() {
        return Err(StartError::AdminNotLoopback(settings.admin));
    }
    Ok(())
}
