//! What a refusal of the control plane means to the operator.

use anyhow::anyhow;
use tonic::{Code, Status};

use crate::exit::Failure;

/// Turns a status into what is wrong and what to do.
#[expect(clippy::needless_pass_by_value, reason = "used as map_err(refused)")]
pub(crate) fn refused(status: Status) -> Failure {
    let said = status.message();
    match status.code() {
        Code::InvalidArgument => Failure::input(anyhow!("{said}")),
        Code::NotFound | Code::FailedPrecondition | Code::AlreadyExists => Failure::from(anyhow!("{said}")),
        Code::Unauthenticated | Code::PermissionDenied => Failure::from(anyhow!(
            "the control plane does not take this operator's certificate ({said}); check --operator-dir"
        )),
        Code::Unimplemented => Failure::from(anyhow!(
            "the control plane does not know this call; it is older than this palisade, update it first"
        )),
        Code::Unavailable => {
            Failure::from(anyhow!("the connection to the control plane broke ({said}); try again"))
        }
        code => Failure::from(anyhow!("the control plane failed: {said} ({code:?}); look at its log")),
    }
}
