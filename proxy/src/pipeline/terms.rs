//! What a request under way is judged by with every change of policy: the same request, by each new snapshot.

use std::fmt;

use palisade_policy::Snapshot;

use super::{edge, inbound, outbound};

#[expect(
    clippy::large_enum_variant,
    reason = "most are inbound: a box would be an allocation for each of their requests"
)]
pub(crate) enum Terms {
    Inbound(inbound::Held),
    Outbound(outbound::Held),
    Edge(Box<edge::Held>),
}

impl fmt::Debug for Terms {
    /// Without what a caller's token says.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Terms(..)")
    }
}

impl Terms {
    pub(crate) fn allow(&self, snapshot: &Snapshot) -> bool {
        match self {
            Self::Inbound(held) => held.is_allowed(snapshot),
            Self::Outbound(held) => held.is_allowed(snapshot),
            Self::Edge(held) => held.is_allowed(snapshot),
        }
    }

    /// Of the certificate that the caller showed in the mesh.
    pub(crate) fn peer_serial(&self) -> Option<&str> {
        match self {
            Self::Inbound(held) => held.peer_serial(),
            Self::Outbound(_) | Self::Edge(_) => None,
        }
    }
}
