//! Tasks of hyper on the worker's own thread.

use std::future::Future;

/// Spawns on the current `LocalSet`; nothing needs to be `Send`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LocalExec;

impl<F> hyper::rt::Executor<F> for LocalExec
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}
