//! Between wire and model.

use palisade_policy::{Finding, Projection};

use crate::v1;

/// Why a message from the other side does not become a model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct WireError {
    /// Path of the field in the message.
    pub field: String,
    pub problem: String,
}

impl From<&Projection> for v1::SnapshotBody {
    fn from(projection: &Projection) -> Self {
        let _ = projection;
        Self::default()
    }
}

impl TryFrom<v1::SnapshotBody> for Projection {
    type Error = WireError;

    fn try_from(body: v1::SnapshotBody) -> Result<Self, WireError> {
        let _ = body;
        Err(WireError { field: "workload".into(), problem: "is missing".into() })
    }
}

impl From<&Finding> for v1::Finding {
    fn from(finding: &Finding) -> Self {
        let _ = finding;
        Self::default()
    }
}
