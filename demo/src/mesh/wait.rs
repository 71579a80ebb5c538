//! Waiting for a state, with a deadline.

use std::time::Duration;

use anyhow::{Context as _, Result};

const INTERVAL: Duration = Duration::from_millis(10);
/// Far more than anything here takes: a busy machine must not fail the demo.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Asks until the answer is `Ok(Some(..))`. An error ends the wait at once.
pub(crate) async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
    let answer = tokio::time::timeout(TIMEOUT, async {
        loop {
            if let Some(value) = ask().await? {
                return Ok(value);
            }
            tokio::time::sleep(INTERVAL).await;
        }
    });
    answer.await.with_context(|| format!("waited {TIMEOUT:?} in vain for {what}"))?
}
