//! One accepted connection, in its worker.

use std::rc::Rc;

use crate::worker::{Accepted, Worker};

/// Serves a connection to its end.
pub(crate) async fn connection(worker: Rc<Worker>, accepted: Accepted) {
    let _ = worker;
    drop(accepted);
}
