//! Waiting for a state, never for a time.

use std::fmt::Debug;
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// How long a test waits for something that should be there at once, on a slow and busy machine.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Polls until `check` gives a value. Panics after `DEADLINE` with the last reason.
pub async fn until<T, E: Debug, F: Future<Output = Result<T, E>>>(
    what: &str,
    mut check: impl FnMut() -> F,
) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        match check().await {
            Ok(value) => return value,
            Err(reason) if Instant::now() > end => panic!("waited {DEADLINE:?} for {what}: {reason:?}"),
            Err(_) => sleep(Duration::from_millis(10)).await,
        }
    }
}
