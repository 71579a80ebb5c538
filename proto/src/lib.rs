//! The wire: generated types of `palisade/v1/*.proto`, and conversions between them and the model.

/// Generated. Leaves this crate only towards the API layer of the control plane and the two clients.
#[allow(
    missing_debug_implementations,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::pedantic,
    clippy::restriction,
    reason = "generated code"
)]
pub mod v1 {
    tonic::include_proto!("palisade.v1");
}

pub mod convert;
pub mod join_token;

pub use join_token::{JoinToken, JoinTokenError, JoinTokenId};
